"""`daas-hub doctor` judges as the hub does, and commands that look write nothing."""

from __future__ import annotations

import ctypes
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daas_hub import cli
from daas_hub.cli.doctor import clock
from daas_hub.cli.urls import masked
from daas_hub.clients import cgroups
from daas_hub.core.models import Resource, Who
from daas_hub.db.ledger import Ledger

PROFILE = '{"display_name": "A", "resources": {"cpu_limit": 1, "mem_limit": "1G"}}'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that can work, in a folder of its own."""
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "ab" * 32)
    path = tmp_path / "jupyterhub_config.py"
    path.write_text(
        f"""c = get_config()
from daas_hub import configure
configure(c, DaasHub__hub_id="doctor-looks")
c.JupyterHub.authenticator_class = "dummy"
c.DaasHub.ledger_url = "sqlite:///{tmp_path}/ledger.sqlite"
c.LocalBackend.runtime_dir = "{tmp_path}/run"
c.DaasSpawner.profile_list = [{PROFILE}]
"""
    )
    return path


def doctor(path: Path, more: str = "") -> tuple[int, str, list[str]]:
    path.write_text(path.read_text() + more + "\n")
    result = CliRunner().invoke(cli.app, ["doctor", "--config", str(path)])
    return result.exit_code, result.output, [line for line in result.output.splitlines() if line.startswith("ERROR")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.DaasSpawner.min_uuid = 5", "c.DaasSpawner.min_uuid is not a setting of DaasSpawner. Did you mean min_uid?"),
        ("c.LocalBackend.home_root = []", "Did you mean home_roots?"),
        ("c.LocalBackend.umask = 'x'", "LocalBackend.umask"),
        ("c.DaasSpawner.profile_list = [{'display_name': 'A', 'alowed_groups': []}]", "alowed_groups is unknown"),
        ("c.DaasSpawner.profile_list = 5", "profile_list"),
        ("c.Culler.rules = [{'nam': 1}]", "Culler.rules[0] has the unknown key 'nam'"),
        ("c.Culler.rules = 5", "c.Culler.rules: "),
        ("c.Culler.concurrency = 0", "c.Culler.concurrency: "),
        ("c.JupyterHub.spawner_class = 'simple'", "JupyterHub.spawner_class is SimpleLocalProcessSpawner"),
        (
            "c.JupyterHub.load_roles = [{'name': 'daas-reconciler'}]",
            "gives the service 'daas-reconciler' no start:servers",
        ),
    ],
)
def test_what_the_hub_refuses_is_an_error(config: Path, line: str, words: str) -> None:
    status, output, errors = doctor(config, line)
    assert status == 1
    assert any(words in error for error in errors), output


def test_without_configure_the_services_are_missing(config: Path) -> None:
    text = config.read_text().replace("configure(c, ", "dict(")
    config.write_text(text + "c.JupyterHub.spawner_class = 'daas'\n")
    status, output, errors = doctor(config)
    assert status == 1
    for name in ("daas", "daas-culler", "daas-reconciler"):
        assert any(f"The service {name!r} is not among JupyterHub.services" in error for error in errors), output


def test_a_proxy_of_the_hubs_own_is_told_of_where_tls_is_on(config: Path) -> None:
    assert "the hub starts it" not in doctor(config)[1]
    _, output, _ = doctor(config, "c.JupyterHub.internal_ssl = True")
    assert "the hub starts it, and gives it the hook" in output
    assert "CONFIGPROXY_AUTH_TOKEN" not in output


def test_all_errors_are_told_at_once(config: Path) -> None:
    _, _, errors = doctor(config, "c.DaasSpawner.min_uuid = 5\nc.Culler.rules = [{'nam': 1}]\nc.DaasHub.x = 1")
    assert len(errors) == 3


def test_a_profile_that_a_limit_cannot_count_is_an_error(config: Path, tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.limits.set(Who.DEFAULT_EACH, "", Resource.GPUS, 1, by="test", now=datetime.now(UTC), note="")
    ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 1, by="test", now=datetime.now(UTC), note="")
    ledger.close()
    status, _, errors = doctor(config, "c.DaasSpawner.profile_list = [{'display_name': 'A', 'resources': {}}]")
    assert status == 1
    assert any("Profile 'a' can be started without resources.cpu_limit" in error for error in errors)


def test_a_look_makes_no_ledger_no_folder_and_no_cgroup(config: Path, tmp_path: Path) -> None:
    own = Path("/proc/self/cgroup").read_text()
    status, output, _ = doctor(config)
    assert status == 0, output
    assert "ledger.sqlite does not exist yet: it is made at the hub's first start" in output
    assert [path.name for path in tmp_path.iterdir()] == ["jupyterhub_config.py"]
    assert Path("/proc/self/cgroup").read_text() == own
    groups = cgroups.mounted(Path("/proc/self/mountinfo").read_text(), own)
    assert [p for place in groups for p in place.own.glob("daas-doctor-looks*")] == []


def test_the_look_at_cgroups_agrees_with_what_the_hub_finds(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    mountinfo, own = tmp_path / "mountinfo", tmp_path / "own"
    mountinfo.write_text(f"30 20 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    own.write_text("0::/\n")
    place = cgroups.look(systemd_folder=tmp_path / "none", mountinfo=mountinfo, own=own)
    assert (place.kind, place.enforces) == ("v2", True)
    (tmp_path / "cgroup.controllers").write_text("pids")
    assert not cgroups.look(systemd_folder=tmp_path / "none", mountinfo=mountinfo, own=own).enforces


def test_recount_of_no_ledger_is_refused_and_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/none.sqlite"
    monkeypatch.setattr("sys.argv", ["daas-hub", "db", "recount", "--url", url])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert f"There is no ledger at {url}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://daas:s3cret@127.0.0.1:1/daas",
        "postgresql+psycopg://127.0.0.1:1/daas?user=daas&password=s3cret",
        "postgresql+psycopg://127.0.0.1:1/daas?sslpassword=s3cret&user=daas",
        "postgresql+psycopg://daas:s3c@ret@127.0.0.1:1/daas?PassWord=s3cret",
    ],
)
def test_no_password_of_the_ledger_is_printed(config: Path, url: str) -> None:
    assert masked(url).startswith("127.0.0.1:1/daas")
    status, output, _ = doctor(config, f"c.DaasHub.ledger_url = {url!r}")
    assert status == 1
    assert "127.0.0.1:1/daas" in output
    assert "s3c" not in output


class Kernel:
    """Answers adjtimex(2) with a status and whether it may be asked."""

    def __init__(self, status: int, answer: int) -> None:
        self.status, self.answer = status, answer

    def adjtimex(self, timex: Any) -> int:
        struct.pack_into("@i", timex, struct.calcsize("@I4l"), self.status)
        return self.answer


@pytest.mark.parametrize(
    ("kernel", "level", "words"),
    [
        (Kernel(0x2001, 0), "ok", "synchronised"),
        (Kernel(0x2041, 5), "note", "nothing keeps it synchronised"),
        (Kernel(0, -1), "note", "cannot be asked here"),
    ],
    ids=["kept", "not kept", "not allowed"],
)
def test_the_clock(kernel: Kernel, level: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: kernel)
    (finding,) = clock()
    assert (finding.level, finding.found) == (level, words)
    assert ("chrony" in finding.fix) is ("nothing" in words)
