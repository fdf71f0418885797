"""What every test has: the engines' marker, and a loop that nothing may block."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from daas_hub.clients import cgroups
from tests.servers import keycloak as keycloak_server
from tests.servers import machine, nfs, samba_fixtures, sss_idmap, sssd
from tests.servers import samba as samba_server
from tests.servers.kubernetes import build, fixtures
from tests.servers.kubernetes.fixtures import kube, kube_namespace, kube_rig, project_image, tiny, tiny_name
from tests.servers.slapd import Slapd
from tests.servers.slurm import daemons as slurm_daemons
from tests.servers.slurm import debian as slurm_debian
from tests.servers.slurm.fixtures import slurm, slurm24, slurm_any, slurm_clusters

try:
    from hypothesis import settings
except ModuleNotFoundError:  # on the machines of test_other_machines.py
    settings = None  # type: ignore[assignment,misc]

__all__ = ["kube", "kube_namespace", "kube_rig", "project_image", "samba", "tiny", "tiny_name"]
__all__ += ["slurm", "slurm24", "slurm_any", "slurm_clusters"]
samba = samba_fixtures.samba


@functools.cache
def way_of_cgroups() -> str:
    """How groups are made on this machine, or ``none``; only looked at, nothing is made or moved."""
    return cgroups.look().kind


@functools.cache
def loop_devices() -> bool:
    """Whether a file can become a loop device."""
    if shutil.which("losetup") is None:
        return False
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(2**20)
        made = subprocess.run(["losetup", "--find", "--show", file.name], capture_output=True, text=True)
        return made.returncode == 0 and subprocess.run(["losetup", "--detach", made.stdout.strip()]).returncode == 0


ENGINES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "slapd": lambda: shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None,
    "samba": samba_server.available,
    "postgres": lambda: bool(list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
    "chromium": lambda: shutil.which("chromium") is not None,
    "node": lambda: shutil.which("node") is not None,
    "kubernetes": fixtures.cluster_possible,
    "kube_rig": fixtures.own_cluster_possible,
    "images": fixtures.own_cluster_possible,
    "loop": loop_devices,
    "vm": machine.available,
    "sss_idmap": sss_idmap.available,
    "sssd": sssd.available,
    "nfs": nfs.available,
    "slurm": slurm_daemons.available,
    "slurm24": lambda: slurm_daemons.tools_available() and slurm_debian.possible(),
    "modules": lambda: Path("/usr/share/modules/init/sh").exists(),
    "keycloak": keycloak_server.possible,
    "aiosmtpd": lambda: importlib.util.find_spec("aiosmtpd") is not None,
    "kube_api": lambda: all(shutil.which(program) for program in ("openssl", "setpriv")),
}
"""Engine → whether this machine has it."""

_left_out: dict[str, list[str]] = {}
LEFT_OUT = "left out for want of"
"""Of a report's properties: they come here also from other processes."""

KUBERNETES = {"kubernetes", "kube_rig", "kube_api"}


def needs_of(item: pytest.Item) -> set[str]:
    """The engines that a test's markers name."""
    return {engine for marker in item.iter_markers("needs") for engine in marker.args}


def pytest_configure(config: pytest.Config) -> None:
    if settings is not None:
        # How long an example takes says how busy the machine is.
        settings.register_profile("daas", settings(), deadline=None)
        settings.load_profile("daas")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell starts in the background ignores it, and so would all that is started here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # As Ctrl-C: what tests have started ends with them.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    if config.pluginmanager.hasplugin("xdist"):
        # Not on other machines and for other accounts, whose small environments lack it.
        from tests import parallel

        if (plugin := parallel.plugin(config)) is not None:
            config.pluginmanager.register(plugin, "daas-parallel")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """What a fixture has started and could not end, because it was interrupted before its ``try``."""
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        for pid in reversed(descendants(os.getpid())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(top: int) -> list[int]:
    """The children of a process, their children and so on, each after its parent."""
    from tests.flow.site import parent_of

    children: dict[int, list[int]] = {}
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        children.setdefault(parent_of(pid), []).append(pid)
    found = list(children.get(top, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Kubernetes come last: its programs are built while the others run."""
    items.sort(key=lambda item: bool(needs_of(item) & KUBERNETES))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    # Around everything else, so that no test's time limit counts while the programs are built.
    needed = needs_of(item) & KUBERNETES
    if needed and all(ENGINES[engine]() for engine in needed):
        # A worker has no terminal; the run's other tests go on.
        terminal = item.config.pluginmanager.get_plugin("terminalreporter")
        if terminal and not all(part.built for part in build.ALL):
            terminal.write_line("\nWaiting for the programs of the Kubernetes cluster: they are built once.")
        fixtures.wait_for_programs()
    if "images" in needs_of(item) and ENGINES["images"]():
        fixtures.wait_for_images()
    if "slurm24" in needs_of(item) and ENGINES["slurm24"]():
        slurm_debian.wait()
    return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for engine in marker.args:
            if not ENGINES[engine]():
                leave_out(item, engine)
    for marker in item.iter_markers("cgroups"):
        wanted = marker.args or machine.WAYS
        assert set(wanted) <= set(machine.WAYS), f"{item.nodeid}: there are the ways {machine.WAYS}, not {wanted}"
        if way_of_cgroups() in wanted:
            continue
        if machine.available():
            # test_other_machines.py runs every test that is so marked, in each way that is not this machine's.
            pytest.skip(f"runs in a virtual machine: cgroups by {' or '.join(wanted)}")
        leave_out(item, f"cgroups by {' or '.join(wanted)}")


def leave_out(item: pytest.Item, engine: str) -> None:
    """Skip a test and tell of it at the end, or fail it where every engine is required."""
    if os.environ.get("DAAS_TEST_REQUIRE") == "all":
        pytest.fail(f"needs {engine}, which this machine lacks (DAAS_TEST_REQUIRE=all)", pytrace=False)
    item.user_properties.append((LEFT_OUT, engine))
    pytest.skip(f"needs {engine}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows what its error tells the operator, too."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if report.failed and (told := getattr(error, "log_message", "")):
        report.sections.append(("What the operator is told", str(told)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "setup":
        for engine in [value for name, value in report.user_properties if name == LEFT_OUT]:
            _left_out.setdefault(str(engine), []).append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for engine, nodes in sorted(_left_out.items()):
        terminalreporter.section(f"NOT RUN: {len(nodes)} tests need {engine}, which this machine lacks", sep="!")
        for node in nodes:
            terminalreporter.line(f"  {node}")


@pytest.fixture(name="slapd")
async def slapd_of_its_own(tmp_path: Path) -> AsyncIterator[Slapd]:
    """For one test, which may change it."""
    root = tmp_path / "slapd"
    root.mkdir()
    server = await Slapd(root, Path("/home")).start()
    yield server
    await server.stop()


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> Iterator[None]:
    """Tests speak only to loopback addresses: an HTTP proxy of the environment must not come between."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    return
