"""The launcher of a job by itself, as any node would run it: ids, port, folder, report, what the server is given."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import slurm_launcher
from daas_hub.backends.slurm_launch import CLAIMER_TEXT, KEEPER_TEXT, LAUNCHER, launch_files
from daas_hub.core.models import AccountGroup, LaunchSpec
from tests.servers.slurm.plain import SAYS_ALL, Ear, ear, spec_here
from tests.waiting import PATIENCE, until

WAITS = "import os, sys, time; open(sys.argv[1] + '.new', 'w').write(os.environ['JUPYTER_DATA_DIR']); "
WAITS += "os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(1000)"

STAYS = f"{SAYS_ALL}\nimport time\nwhile not os.path.exists(sys.argv[1] + '.over'): time.sleep(0.02)"


@pytest.fixture
def heard() -> Iterator[Ear]:
    with ear() as one:
        yield one


class Node:
    """A folder of a launch, and the launcher run from it."""

    def __init__(self, root: Path) -> None:
        self.home, self.tmp, self.folder = (root / name for name in ("home", "tmp", "launch"))
        for path in (self.home, self.tmp, self.folder):
            path.mkdir(mode=0o700)
        self.log = root / "log"

    def write(self, spec: LaunchSpec, url: str, **more: Any) -> None:
        for name, text in launch_files(spec, report_url=url, **{"ports": None, **more}).items():
            (self.folder / name).write_text(text)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", str(self.folder / "launch.py")]
        env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(self.tmp), "SLURM_JOB_ID": "7", **env}
        with self.log.open("wb") as log:
            return subprocess.Popen(argv, env=env, stderr=log)

    def run(self, heard: Ear | None = None, **env: str) -> tuple[int, str]:
        """Status and log, once server and report are over; with ``heard`` a server that stays ends after its report."""
        deadline = time.monotonic() + 30 * PATIENCE
        with self.start(**env) as process:
            while heard is not None and not heard.heard and time.monotonic() < deadline:
                time.sleep(0.02)
            (self.home / "said.over").touch()
            process.wait(60 * PATIENCE)
        while list(self.tmp.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return process.returncode, self.log.read_text()

    def said(self) -> tuple[list[str], dict[str, str], str]:
        argv, env, cwd = json.loads((self.home / "said").read_text())
        return argv, env, cwd


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("text", [LAUNCHER, CLAIMER_TEXT, KEEPER_TEXT])
def test_its_syntax_and_its_modules_are_those_of_python_3_6(text: str) -> None:
    tree = ast.parse(text, feature_version=(3, 6))
    imported = {name.name.split(".")[0] for one in ast.walk(tree) if isinstance(one, ast.Import) for name in one.names}
    imported |= {one.module or "" for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names - {"__future__", "dataclasses"}
    # From 3.7 on; annotations that need it stand in quotes.
    assert "capture_output" not in text
    assert not [
        one for one in ast.walk(tree) if isinstance(one, ast.Subscript) and ast.unparse(one).startswith("dict[")
    ]


def test_the_server_does_not_wait_for_what_only_the_report_needs() -> None:
    at_first = {name.name for one in ast.parse(LAUNCHER).body if isinstance(one, ast.Import) for name in one.names}
    assert {"json", "signal"} < at_first
    assert not {name for name in at_first if name.split(".")[0] in {"ssl", "urllib", "http", "email"}}


def staying(home: Path) -> LaunchSpec:
    return spec_here(home, cmd=(sys.executable, "-c", STAYS, str(home / "said")))


def test_the_server_gets_what_the_hub_says_and_what_the_node_has(node: Node, heard: Ear) -> None:
    node.write(staying(node.home), heard.url)
    status, log = node.run(heard, CUDA_VISIBLE_DEVICES="3", SLURM_CPUS_ON_NODE="4")
    _, env, cwd = node.said()
    assert (status, log) == (0, "")
    assert cwd == env["HOME"] == str(node.home)
    assert (env["USER"], env["LOGNAME"], env["SHELL"]) == ("ada", "ada", "/bin/zsh")
    assert env["PATH"] == f"{Path(sys.executable).parent}:/usr/bin:/bin"
    assert (env["CUDA_VISIBLE_DEVICES"], env["SLURM_CPUS_ON_NODE"], env["SLURM_JOB_ID"]) == ("3", "4", "7")
    assert env["JUPYTERHUB_API_TOKEN"] == "t0ken"
    assert env["JUPYTER_PATH"] == f"{node.home}/.local/share/jupyter:/site"
    assert env["JUPYTER_CONFIG_PATH"] == f"{node.home}/.jupyter"
    (port,) = heard.ports()
    assert env["JUPYTERHUB_SERVICE_URL"] == f"http://0.0.0.0:{port}/user/ada/"
    folders = {name for name in env if name.startswith(("JUPYTER_", "JUPYTERLAB_", "IPYTHON")) and name.endswith("DIR")}
    assert len(folders) == 6
    assert all(Path(env[name]).is_relative_to(node.tmp) for name in folders)
    assert not list(node.tmp.iterdir())
    assert heard.heard[0][0]["Authorization"] == "token t0ken"


@pytest.mark.parametrize("ids", [{"uid": 4242}, {"gid": 4243}])
def test_another_account_on_the_node_starts_nothing(node: Node, heard: Ear, ids: Mapping[str, int]) -> None:
    spec = spec_here(node.home)
    node.write(replace(spec, account=replace(spec.account, **ids)), heard.url)
    status, log = node.run()
    assert status == slurm_launcher.REFUSED
    assert "has uid {} and gid {}".format(ids.get("uid", os.getuid()), ids.get("gid", os.getgid())) in log
    assert f"runs as uid {os.getuid()} and gid {os.getgid()}" in log
    assert not (node.home / "said").exists()
    assert not heard.heard


def test_groups_that_the_node_lacks_are_named(node: Node, heard: Ear) -> None:
    spec = spec_here(node.home)
    missing = max(os.getgroups(), default=0) + 4711
    groups = (*spec.account.groups, AccountGroup("beam", missing))
    node.write(replace(spec, account=replace(spec.account, groups=groups)), heard.url)
    status, log = node.run()
    assert status == 0
    assert f"groups_missing: the job on {socket.gethostname()} is not in the groups [{missing}]" in log


def test_a_program_that_the_node_lacks_is_named(node: Node, heard: Ear) -> None:
    node.write(spec_here(node.home, cmd=("jupyterhub-singleuser-nowhere",)), heard.url)
    status, log = node.run()
    assert status == slurm_launcher.NOT_FOUND
    assert "the program jupyterhub-singleuser-nowhere is not on" in log
    assert "/usr/bin:/bin" in log
    assert not list(node.tmp.iterdir())


def test_of_several_tasks_only_the_first_does_anything(node: Node, heard: Ear) -> None:
    node.write(staying(node.home), heard.url)
    assert node.run(SLURM_PROCID="1") == (0, "")
    assert not (node.home / "said").exists()
    (node.home / "said.over").unlink()
    assert node.run(heard, SLURM_PROCID="0") == (0, "")
    assert len(heard.heard) == 1


# ---------------------------------------------------------------- the report


async def started(node: Node, heard: Ear, spec: LaunchSpec, condition: Callable[[], Any]) -> str:
    """Run a server that goes on until the condition is true, then end it; returns its log."""
    node.write(spec, heard.url)
    with node.start() as process:
        await until(condition, within_s=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60 * PATIENCE) == -signal.SIGTERM
    await until(lambda: not list(node.tmp.iterdir()), within_s=30)
    return node.log.read_text()


def waiting(home: Path) -> LaunchSpec:
    return spec_here(home, cmd=(sys.executable, "-c", WAITS, str(home / "said")))


@pytest.mark.parametrize("status", [503, 500, 403, 302, 307])
async def test_it_reports_again_until_the_hub_takes_it_and_follows_nobody_elsewhere(
    node: Node, heard: Ear, status: int
) -> None:
    heard.answers[:] = [status, 200]
    log = await started(node, heard, waiting(node.home), lambda: len(heard.heard) == 2)
    assert len(set(heard.ports())) == 1
    assert heard.paths == ["/hub/api/daas/report"] * 2
    assert f"yet: {status} " in log
    assert "t0ken" not in log


@pytest.mark.parametrize("status", [409, 400])
async def test_what_the_hub_refuses_for_good_is_not_reported_again(node: Node, heard: Ear, status: int) -> None:
    heard.answers[:] = [status]
    log = await started(node, heard, waiting(node.home), lambda: heard.heard and (node.home / "said").exists())
    assert len(heard.heard) == 1
    assert f"does not take the port {heard.ports()[0]}: {status}" in log


async def test_a_server_that_ends_before_the_hub_answers_leaves_nothing(node: Node) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        nobody = Ear(f"http://127.0.0.1:{s.getsockname()[1]}/")
        log = await started(node, nobody, waiting(node.home), lambda: "yet" in node.log.read_text())
    assert "yet: [Errno 111] Connection refused" in log


def test_no_proxy_of_the_node_sees_the_token(node: Node, heard: Ear) -> None:
    node.write(staying(node.home), heard.url)
    status, _ = node.run(heard, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert status == 0
    assert len(heard.heard) == 1


# ---------------------------------------------------------------- port and address


def test_a_port_of_the_sites_range_that_is_free(node: Node, heard: Ear) -> None:
    with socket.socket() as taken, socket.socket() as other:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        node.write(spec_here(node.home), heard.url, ports=(port, port))
        status, log = node.run()
        assert (status, log) == (
            slurm_launcher.REFUSED,
            f"daas-hub: no port is free on this node from {port} to {port}.\n",
        )
        other.bind(("0.0.0.0", 0))
        second = other.getsockname()[1]
    node.write(staying(node.home), heard.url, ports=(second, second))
    (node.home / "said.over").unlink()
    assert node.run(heard) == (0, "")
    assert heard.ports() == [second]


def names_lead_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def found(name: str, *_: Any) -> list[Any]:
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in host], socket.SOCK_STREAM, 0, "", (host, 0)) for host in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize(
    ("hosts", "chosen"),
    [
        (["127.9.8.7"], "127.9.8.7"),
        (["127.0.1.1"], ""),
        (["127.0.0.1", "::1"], ""),
        (["192.0.2.1"], ""),
        (["192.0.2.1", "127.9.8.7"], "127.9.8.7"),
        ([], ""),
    ],
)
def test_it_listens_where_the_nodes_name_leads_to_if_others_can_reach_that(
    hosts: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_lead_to(monkeypatch, *hosts)
    assert slurm_launcher.address("node1") == chosen


def test_a_node_without_a_name_or_a_resolver_listens_everywhere() -> None:
    assert slurm_launcher.address("") == ""
    assert slurm_launcher.address("no-such-node.invalid") == ""


# ---------------------------------------------------------------- Jupyter's folder


def test_it_is_not_made_where_others_could_rename_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, trusted in ((0o700, True), (0o755, True), (0o777, False), (0o770, False), (0o1777, True)):
        tmp_path.chmod(mode)
        assert slurm_launcher.trusted(str(tmp_path)) is trusted
    assert not slurm_launcher.trusted(str(tmp_path / "missing"))
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o700)
    assert slurm_launcher.trusted(str(inner))
    tmp_path.chmod(0o777)
    assert not slurm_launcher.trusted(str(inner))
    tmp_path.chmod(0o700)
    others = os.stat_result((0o40755, 1, 1, 1, 4242, 4242, 0, 0, 0, 0))
    monkeypatch.setattr(os, "stat", lambda path: others)
    assert not slurm_launcher.trusted(str(inner))


def test_what_a_crash_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    crashed, used, strange = (tmp_path / f"daas-job-0123456789ab-{end}" for end in ("abcd_123", "bbcd_123", "cbcd_123"))
    hers = tmp_path / "daas-job-of-her-own"
    for path in (crashed, used, strange, hers):
        path.mkdir()
    for path in (crashed, used, hers):
        (path / ".lock").touch()
    link = tmp_path / "daas-job-0123456789ab-dbcd_123"
    link.symlink_to(strange)
    with (used / ".lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        slurm_launcher.remove_old(str(tmp_path))
    assert set(tmp_path.iterdir()) == {used, strange, link, hers}


def test_the_folder_of_the_launch_serves_where_the_node_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "relative")
    monkeypatch.setattr(slurm_launcher, "trusted", lambda base: base == str(tmp_path))
    own, lock = slurm_launcher.make_own("a" * 32, str(tmp_path))
    os.close(lock)
    assert Path(own).parent == tmp_path
    assert Path(own).stat().st_mode & 0o777 == 0o700


# ---------------------------------------------------------------- internal_ssl


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Key, certificate and authority in one, good for 127.0.0.1: enough for both ends to prove themselves."""
    folder = tmp_path_factory.mktemp("tls")
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=any"
    argv = [
        *words.split(),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        folder / "key",
        "-out",
        folder / "cert",
    ]
    subprocess.run(argv, check=True, capture_output=True)
    return {"keyfile": str(folder / "key"), "certfile": str(folder / "cert"), "cafile": str(folder / "cert")}


def test_with_certificates_it_proves_itself_and_checks_the_hub(node: Node, certificates: dict[str, str]) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates["cafile"])
    tls.load_cert_chain(certificates["certfile"], certificates["keyfile"])
    tls.verify_mode = ssl.CERT_REQUIRED
    with ear(tls) as heard:
        node.write(spec_here(node.home, certificates=certificates), heard.url)
        assert node.run() == (0, "")
    _, env, _ = node.said()
    assert env["JUPYTERHUB_SERVICE_URL"].startswith("https://")
    assert Path(env["JUPYTERHUB_SSL_KEYFILE"]).read_text() == Path(certificates["keyfile"]).read_text()
    assert len(heard.heard) == 1


async def test_a_hub_whose_certificate_is_for_another_name_gets_no_token(
    node: Node, certificates: dict[str, str]
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates["certfile"], certificates["keyfile"])
    with ear(tls) as heard:
        heard.url = heard.url.replace("127.0.0.1", "localhost")
        spec = replace(waiting(node.home), certificates=certificates)
        log = await started(node, heard, spec, lambda: "yet" in node.log.read_text())
    assert not heard.heard
    assert "certificate verify failed" in log
