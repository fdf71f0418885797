"""What every test has: the engines' marker, and a loop that nothing may block."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daas_hub.clients import cgroups
from tests.servers import keycloak as keycloak_server
from tests.servers import machine, nfs, samba_fixtures, sss_idmap, sssd
from tests.servers import samba as samba_server
from tests.servers.kubernetes import build, fixtures
from tests.servers.kubernetes.fixtures import kube, kube_namespace, kube_rig, project_image, tiny, tiny_name

__all__ = ["kube", "kube_namespace", "kube_rig", "project_image", "samba", "tiny", "tiny_name"]
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
    "keycloak": keycloak_server.possible,
    "kube_api": lambda: all(shutil.which(program) for program in ("openssl", "setpriv")),
}
"""Engine → whether this machine has it."""

_left_out: dict[str, list[str]] = {}


KUBERNETES = {"kubernetes", "kube_rig", "kube_api"}


def _needs(item: pytest.Item) -> set[str]:
    return {engine for marker in item.iter_markers("needs") for engine in marker.args}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Kubernetes come last: its programs are built while the others run."""
    items.sort(key=lambda item: bool(_needs(item) & KUBERNETES))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    # Around everything else, so that no test's time limit counts while the programs are built.
    needed = _needs(item) & KUBERNETES
    if needed and all(ENGINES[engine]() for engine in needed):
        if not all(module.built for module in build.ALL):
            terminal = item.config.pluginmanager.get_plugin("terminalreporter")
            terminal.write_line("\nWaiting for the programs of the Kubernetes cluster: they are built once.")
        fixtures.wait_for_programs()
    if "images" in _needs(item) and ENGINES["images"]():
        fixtures.wait_for_images()
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
    _left_out.setdefault(engine, []).append(item.nodeid)
    pytest.skip(f"needs {engine}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for engine, nodes in sorted(_left_out.items()):
        terminalreporter.section(f"NOT RUN: {len(nodes)} tests need {engine}, which this machine lacks", sep="!")
        for node in nodes:
            terminalreporter.line(f"  {node}")


@pytest.fixture(scope="session", autouse=True)
def _no_proxies() -> Iterator[None]:
    """Tests speak only to loopback addresses: an HTTP proxy of the environment must not come between."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        os.environ.pop(name, None)
    return
