"""What the operator sets after `configure(c)` stays, and so does what is ours; where ours cannot, the hub refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.hub import ADMIN_SCOPES, HubServer

BEGIN = """
from daas_hub import configure
configure(c)
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
"""


async def test_lists_that_are_set_afterwards_keep_our_parts(tmp_path: Path) -> None:
    server = HubServer(tmp_path, "")
    server.config = f"""{BEGIN}
c.JupyterHub.services = [{{"name": "tests", "api_token": "{server.token}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": {ADMIN_SCOPES!r}}}]
c.JupyterHub.extra_user_scopes = set()
c.JupyterHub.jinja_environment_options = {{"trim_blocks": True}}
"""
    await server.start()
    try:
        status, services = await server.api("GET", "services")
        assert status == 200
        assert services.keys() == {"tests", "daas", "daas-culler", "daas-reconciler"}
        assert ("daas-reconciler", "start:servers") in server.roles_of_services()
        assert (tmp_path / "ledger.sqlite").exists()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("c.JupyterHub.jinja_environment_options = {}\nc.DaasSpawner.min_uuid = 5", "Did you mean min_uid?"),
        (
            "c.JupyterHub.load_roles = [{'name': 'daas-reconciler', 'services': ['daas-reconciler'], 'scopes': []}]",
            "JupyterHub.load_roles gives the service 'daas-reconciler' no start:servers",
        ),
        ("c.DaasSpawner.profile_list = 5", "profile_list"),
    ],
)
def test_what_cannot_work_refuses_to_start(tmp_path: Path, more: str, words: str) -> None:
    server = HubServer(tmp_path, BEGIN + more)
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "-f", str(server.write_config())],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "JUPYTERHUB_CRYPT_KEY": server.crypt_key},
        capture_output=True,
        text=True,
        timeout=60,
    )
    refusal = "\n".join(line for line in done.stderr.splitlines() if line.startswith("[C"))
    assert done.returncode == 1
    assert "daas_hub refuses to start: " in refusal
    assert words in refusal
