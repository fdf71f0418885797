"""The command `daas-hub`: what it prints, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daas_hub import cli
from daas_hub.core.errors import ConfigError

CLONE = Path(__file__).resolve().parents[2]
KEY = "ab" * 32


def doctor(path: Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["doctor", "--config", str(path)])
    return result.exit_code, result.output


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration without a directory, in a folder of its own."""
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", KEY)
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(
        f"""c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.DaasHub.ledger_url = "sqlite:///{tmp_path}/ledger.sqlite"
c.LocalBackend.runtime_dir = "{tmp_path}/run"
from daas_hub import configure
configure(c)
"""
    )
    return path


def lines(output: str, mark: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(mark)]


def test_a_hub_that_can_work_has_no_error(config: Path) -> None:
    status, output = doctor(config)
    assert lines(output, "ERROR") == []
    assert status == 0
    assert any("JupyterHub.cleanup_servers: False" in line for line in lines(output, "ok"))
    assert any("does not exist yet" in line for line in lines(output, "note  ledger"))


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    status, output = doctor(tmp_path / "none.py")
    assert status == 1
    assert "none.py is not there → name it with --config" in output


def test_an_error_of_the_operators_own_code_is_named(config: Path) -> None:
    config.write_text(config.read_text() + "1 / 0\n")
    status, output = doctor(config)
    assert status == 1
    assert "division by zero" in output


def test_a_hub_without_configure_lacks_the_owned_settings(config: Path) -> None:
    config.write_text(config.read_text().replace("configure(c)", ""))
    status, output = doctor(config)
    assert status == 1
    assert any("JupyterHub.cleanup_servers: not set" in line for line in lines(output, "ERROR"))


def test_what_the_operator_set_otherwise_is_a_note(config: Path) -> None:
    config.write_text(config.read_text() + "c.JupyterHub.cleanup_servers = True\n")
    status, output = doctor(config)
    assert status == 0
    assert any("cleanup_servers: True → daas_hub would set False" in line for line in lines(output, "note"))


def test_no_key_is_an_error_with_the_fix(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_CRYPT_KEY")
    status, output = doctor(config)
    assert status == 1
    assert any("openssl rand -hex 32" in line for line in lines(output, "ERROR"))


def test_a_shared_uid_is_an_error(config: Path) -> None:
    config.write_text(config.read_text() + "c.LocalBackend.allow_shared_uid = True\n")
    status, output = doctor(config)
    assert status == 1
    assert any("allow_shared_uid" in line for line in lines(output, "ERROR"))


def test_a_ledger_that_cannot_be_opened_is_named_without_its_password(config: Path) -> None:
    url = "postgresql+psycopg://daas:s3cret@127.0.0.1:1/daas"
    config.write_text(config.read_text() + f"c.DaasHub.ledger_url = {url!r}\n")
    status, output = doctor(config)
    assert status == 1
    assert any(line.startswith("ERROR ledger: 127.0.0.1:1/daas") for line in output.splitlines())
    assert "s3cret" not in output


def test_upgrade_makes_a_ledger_and_recount_finds_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    assert CliRunner().invoke(cli.app, ["db", "upgrade", "--url", url]).exit_code == 0
    result = CliRunner().invoke(cli.app, ["db", "recount"], env={"DAAS_LEDGER_URL": url})
    assert result.exit_code == 0
    assert result.output.strip() == "0 differences."


def test_an_error_of_ours_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ConfigError("This cannot work.")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "This cannot work.\n"


def test_the_demo_is_told_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from daas_hub.demo import run

    told: list[run.Options] = []
    monkeypatch.setattr(run, "main", lambda options: told.append(options) or 0)
    ready = tmp_path / "ready.json"
    arguments = ["--dir", str(tmp_path), "--keep", "--port", "8000", "--idle-after", "30", "--no-open"]
    result = CliRunner().invoke(cli.app, ["demo", *arguments, "--ready-file", str(ready), "--python-proxy"])
    assert result.exit_code == 0
    assert told == [run.Options(tmp_path, True, 8000, 30, False, ready, True)]


def test_the_configuration_to_begin_with_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader("jupyterhub_config.py", path=str(CLONE)).load_config()
    assert config.JupyterHub.spawner_class == "daas"
    assert sys.modules.get("daas_hub") is not None
