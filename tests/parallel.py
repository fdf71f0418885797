"""Several workers for one run (pytest-xdist): who gets which tests, what is made before, and how a run is interrupted.

Tests of one file go to one worker, long files first. Tests on the Kubernetes cluster go only to the few workers that
have a *seat*: each of these keeps one cluster for the whole run. Until the cluster's programs are built, every worker
gets other tests as long as there are any. Loaded only where a run has workers: ``tests/conftest.py`` says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.conftest import needs_of
from tests.servers.kubernetes import build
from tests.waiting import PATIENCE

CLUSTER, API = "cluster", "api server"
NEEDS_CLUSTER = {"kubernetes", "kube_rig"}
ONE_OF_A_RUN = {"kube_api": API, "samba": "domain", "slurm": "slurm", "slurm24": "slurm"}
"""Engine → the rig of which a run has one, for all tests that need it."""
UNITS = "units.json"
FOLDER = "daas_folder"
"""Of what a worker is told by the controller: the folder that all of one run share."""
END_WITHIN_S = 150.0
"""How long an interrupted worker may take to end what it has started: a cluster, hubs, servers."""
LONG: dict[str, float] = {
    "tests/faults/test_kube_outage.py": 340,
    "tests/servers/kubernetes/test_existing.py": 280,
    "tests/faults/test_kube_recovery.py": 190,
    "tests/faults/test_slurm_backend.py": 90,
    "tests/flow/test_slurm_flow.py": 100,
    "tests/flow/test_slurm_tls.py": 60,
    "tests/flow/test_slurm_site_tokens.py": 45,
    "tests/flow/test_two_clusters.py": 90,
    "tests/contracts/test_backend_slurm.py": 110,
    "tests/servers/slurm/test_slurm_rig.py": 165,
    "tests/faults/test_slurm_outages.py": 45,
    "tests/faults/test_slurm_query.py": 30,
    "tests/flow/test_kube_flow.py": 120,
    "tests/flow/test_starts_that_fail.py": 110,
    "tests/faults/test_hub_restart.py": 100,
    "tests/faults/test_other_machines.py": 100,
    "tests/faults/test_directory_hub.py": 90,
    "tests/flow/test_directory_outage.py": 60,
    "tests/images/test_singleuser_base.py": 75,
    "tests/faults/test_kube_recovery_volumes.py": 70,
    "tests/browser/test_console_pages.py": 65,
    "tests/contracts/test_backend_kube.py": 65,
    "tests/faults/test_kube_pods.py": 50,
    "tests/contracts/test_slurm_job.py": 35,
    "tests/servers/kubernetes/test_cluster.py": 45,
    "tests/flow/test_hostile_options.py": 45,
    "tests/contracts/test_ledger_postgres.py": 45,
    "tests/faults/test_kube_volumes.py": 43,
    "tests/browser/test_hub_pages.py": 43,
    "tests/images/test_singleuser_datascience.py": 42,
    "tests/contracts/test_backend_local.py": 40,
    "tests/browser/test_console_rest.py": 40,
    "tests/faults/test_kube_starts.py": 40,
    "tests/flow/test_flow_rest.py": 38,
    "tests/faults/test_kube_answers.py": 37,
    "tests/flow/test_kube_start_told.py": 33,
    "tests/flow/test_unchecked_hub.py": 32,
    "tests/flow/test_reconciler.py": 26,
    "tests/flow/test_demo.py": 40,
    "tests/unit/test_script_test.py": 40,
}
"""File → seconds that it takes, where that is long. Wrong figures cost time, nothing else."""
DEFAULT_S = 0.3


@dataclass(frozen=True)
class Unit:
    """Tests that one worker runs one after another."""

    rig: str
    """What all of them share: CLUSTER, one of ONE_OF_A_RUN or nothing."""
    weight_s: float
    last: bool = False
    """Whether it waits for what takes longest to build."""


def unit_of(file: str, needs: set[str]) -> tuple[str, str]:
    """(name, rig) of the unit that a test belongs to."""
    if needs & NEEDS_CLUSTER:
        return f"{file}@{CLUSTER}", CLUSTER
    for engine, rig in ONE_OF_A_RUN.items():
        if engine in needs:
            return f"@{rig}", rig
    return file, ""


def choose(waiting: Mapping[str, Unit], *, may_sit: bool, built: bool) -> str | None:
    """The unit that a worker gets next; None where all that wait need a seat and it can have none.

    What must wait for a build comes after what need not; then the cluster's tests for who may have them; long first.
    """
    fit = {name: unit for name, unit in waiting.items() if may_sit or unit.rig != CLUSTER}
    if not fit:
        return None

    def order(name: str) -> tuple[bool, bool, bool, float]:
        unit = fit[name]
        return unit.rig in (CLUSTER, API) and not built, unit.rig != CLUSTER, unit.last, -unit.weight_s

    return min(fit, key=order)


def plan(found: Iterable[tuple[str, str, list[str]]]) -> tuple[dict[str, str], dict[str, Unit]]:
    """(node id, file, needs) of each test → the unit's name of each node id, and the units."""
    names: dict[str, str] = {}
    units: dict[str, Unit] = {}
    counted: set[tuple[str, str]] = set()
    for nodeid, file, needs in found:
        name, rig = unit_of(file, set(needs))
        names[nodeid] = name
        weight_s = units[name].weight_s if name in units else 0
        weight_s += DEFAULT_S if (name, file) in counted else LONG.get(file, 0)
        counted.add((name, file))
        last = "images" in needs or (name in units and units[name].last)
        units[name] = Unit(rig, weight_s or DEFAULT_S, last)
    return names, units


def seats(workers: int, *, others: bool) -> int:
    """How many workers may have a cluster: each is 1.5 GiB of memory.

    ``others``: tests wait that need none; then one worker must be left for them.
    """
    return min(2, workers - 1 if others and workers > 1 else workers)


def programs_built() -> bool:
    """Whether the cluster's programs are there."""
    return all(part.built for part in build.ALL)


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]
    """xdist's own, but ``choose`` says who gets what."""

    def __init__(self, config: pytest.Config, log: Any, folder: Path, built: Callable[[], bool] = programs_built):
        super().__init__(config, log)
        # In the order of the files; ``choose`` does not depend on it.
        config.option.loadscopereorder = False
        self.folder, self.built = folder, built
        self.names: dict[str, str] = {}
        self.units: dict[str, Unit] = {}
        self.seated: set[Any] = set()

    def schedule(self) -> None:
        if not self.names:
            self.names, self.units = plan(json.loads((self.folder / UNITS).read_text()))
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self.names[nodeid]

    def _assign_work_unit(self, node: Any) -> None:
        waiting = {name: self.units[name] for name in self.workqueue}
        others = any(unit.rig != CLUSTER for unit in waiting.values())
        may_sit = node in self.seated or len(self.seated) < seats(self.numnodes, others=others)
        name = choose(waiting, may_sit=may_sit, built=self.built())
        if name is None:
            node.shutdown()
            return
        if self.units[name].rig == CLUSTER:
            self.seated.add(node)
        self.workqueue.move_to_end(name, last=False)
        super()._assign_work_unit(node)

    def remove_node(self, node: Any) -> str | None:
        """Give back what a worker has left; returns the test in which it died, which nobody runs again."""
        self.seated.discard(node)
        left = self.assigned_work[node]
        crashed = next((nodeid for unit in left.values() for nodeid, done in unit.items() if not done), None)
        if crashed is not None:
            left[self.names[crashed]][crashed] = True
        for name in [name for name, unit in left.items() if all(unit.values())]:
            del left[name]
        super().remove_node(node)
        return crashed


class Controller:
    """The process that has the workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="daas-tests-"))
        self.nodes: list[Any] = []
        self.config = config
        self.failed = False

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name each failure when it comes, and show the first: a run goes on for long, and its end may be cut off."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if not report.failed or terminal is None:
            return
        terminal.write_line(f"\nFAILED {report.nodeid}")
        if not self.failed:
            self.failed = True
            report.toterminal(terminal._tw)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        prepare()

    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FOLDER] = str(self.folder)
        self.nodes.append(node)

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduler:
        return Scheduler(config, log, self.folder)

    def pytest_keyboard_interrupt(self) -> None:
        """Each worker ends its test and what it started; xdist itself would kill it after a few seconds."""
        for node in self.nodes:
            with suppress(OSError):
                node.gateway._io.popen.send_signal(signal.SIGINT)
        for node in self.nodes:
            # A worker that was killed has a closed channel, too; one that is stuck is killed by xdist.
            with suppress(Exception):
                node.channel.waitclose(END_WITHIN_S)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Worker:
    """One process that runs tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Ctrl-C of a terminal reaches the controller alone, which tells each worker once.
        with suppress(PermissionError):
            os.setpgid(0, 0)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Time limits are for tests that hang, and neighbours make all slower."""
        usual_s = float(config.getini("timeout") or 0)
        for item in items:
            marker = item.get_closest_marker("timeout")
            limit_s = marker.args[0] if marker else usual_s
            item.add_marker(pytest.mark.timeout(limit_s * PATIENCE), append=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell the controller, which collects nothing, what each test needs. All workers write the same.

        Before xdist tells it that this worker is ready: it reads the file as soon as all are.
        """
        found = [(item.nodeid, item.nodeid.partition("::")[0], sorted(needs_of(item))) for item in session.items]
        draft = self.folder / f"{UNITS}.{os.getpid()}"
        draft.write_text(json.dumps(found))
        draft.replace(self.folder / UNITS)


def prepare() -> None:
    """What several tests would otherwise make at once within their time limits: they would all wait for one."""
    from tests.servers.machine import available, boot_files
    from tests.servers.npm import AXE, PROXY, npm_ci
    from tests.servers.reachable_python import singleuser

    steps: list[Callable[[], Any]] = [singleuser]
    if shutil.which("npm"):
        steps += [lambda: npm_ci(AXE), lambda: npm_ci(PROXY)]
    if available():
        steps.append(boot_files)
    with ThreadPoolExecutor() as pool:
        for step in [pool.submit(step) for step in steps]:
            # The tests that need it say what is wrong.
            with suppress(OSError, subprocess.SubprocessError, AssertionError):
                step.result()


def plugin(config: pytest.Config) -> Controller | Worker | None:
    """What this process needs; None in a run without workers."""
    told = getattr(config, "workerinput", None)
    if told is not None:
        return Worker(Path(told[FOLDER]))
    return Controller(config) if config.getoption("numprocesses", None) else None
