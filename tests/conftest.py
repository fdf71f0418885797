"""What every test has: the engines' marker, and a loop that nothing may block."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.kubernetes import fixtures
from tests.servers.kubernetes.fixtures import kube, kube_namespace, kube_rig

__all__ = ["kube", "kube_namespace", "kube_rig"]

ENGINES = {
    "root": lambda: os.geteuid() == 0,
    "slapd": lambda: shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None,
    "postgres": lambda: bool(list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
    "chromium": lambda: shutil.which("chromium") is not None,
    "node": lambda: shutil.which("node") is not None,
    "kubernetes": fixtures.cluster_possible,
    "kube_rig": fixtures.own_cluster_possible,
}
"""Engine → whether this machine has it."""

_left_out: dict[str, list[str]] = {}


KUBERNETES = {"kubernetes", "kube_rig"}


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
        fixtures.wait_for_programs()
    return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for engine in marker.args:
            if ENGINES[engine]():
                continue
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
