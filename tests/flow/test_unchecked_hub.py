"""A hub that names our spawner never serves with settings that were not checked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daas_hub import cli
from tests.servers.hub import HubServer

SOURCE = Path(__file__).parents[2]
DUMMY = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
"""
DERIVED = """
from daas_hub.spawners.spawner import DaasSpawner
class Mine(DaasSpawner):
    pass
c.JupyterHub.spawner_class = Mine
"""


def start(server: HubServer, **env: str) -> tuple[int | None, str]:
    """The exit status and the critical lines of a hub that refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "-f", str(server.write_config())],
        cwd=server.root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[C"))


@pytest.mark.parametrize(
    "more",
    [
        'c.JupyterHub.spawner_class = "daas"',
        'c.JupyterHub.spawner_class = "daas_hub.spawners.spawner.DaasSpawner"',
        DERIVED,
        'c.JupyterHub.spawner_class = "daas"\nc.JupyterHub.jinja_environment_options = {"extensions": []}',
    ],
)
def test_without_configure_the_hub_does_not_start(tmp_path: Path, more: str) -> None:
    server = HubServer(tmp_path, DUMMY + more)
    status, lines = start(server, JUPYTERHUB_CRYPT_KEY=server.crypt_key)
    assert status == 1
    assert "daas_hub refuses to start: configure(c) was never called: " in lines
    assert "Whoever administers this hub adds" in lines
    assert not (tmp_path / "ledger.sqlite").exists()


async def test_another_spawner_is_none_of_our_business(tmp_path: Path) -> None:
    server = HubServer(tmp_path, f"{DUMMY}import daas_hub.spawners.spawner\nc.JupyterHub.spawner_class = 'simple'\n")
    await server.start()
    await server.stop()


def test_a_spawner_that_is_loaded_before_the_hub_is_checked_as_well(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import daas_hub.spawners.spawner\n")
    server = HubServer(tmp_path, f"{DUMMY}c.JupyterHub.spawner_class = 'daas'")
    status, lines = start(server, JUPYTERHUB_CRYPT_KEY=server.crypt_key, PYTHONPATH=f"{tmp_path}:{SOURCE}")
    assert status == 1
    assert "daas_hub refuses to start: configure(c) was never called: " in lines


@pytest.mark.parametrize(("key", "words"), [("", "there is no crypt key"), ("short", "the crypt key cannot be used")])
def test_hub_and_doctor_judge_the_crypt_key_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, words: str
) -> None:
    # Without auth_state JupyterHub itself does not ask for a key; our ledger needs it for the servers' tokens.
    more = "c.Authenticator.enable_auth_state = False\nfrom daas_hub import configure\nconfigure(c)\n"
    server = HubServer(tmp_path, DUMMY + more)
    status, lines = start(server, **({"JUPYTERHUB_CRYPT_KEY": key} if key else {}))
    assert status == 1
    said = lines.partition("daas_hub refuses to start: ")[2]
    assert words in said
    monkeypatch.delenv("JUPYTERHUB_CRYPT_KEY", raising=False)
    if key:
        monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", key)
    result = CliRunner().invoke(cli.app, ["doctor", "--config", str(tmp_path / "jupyterhub_config.py")])
    assert result.exit_code == 1
    assert any(line.startswith("ERROR") and said in line for line in result.output.splitlines()), result.output
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", server.crypt_key)
    result = CliRunner().invoke(cli.app, ["doctor", "--config", str(tmp_path / "jupyterhub_config.py")])
    assert words not in result.output
    assert "crypt key: there is one" in result.output
