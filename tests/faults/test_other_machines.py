"""The tests marked ``cgroups``, again on machines that are not as this one: real kernels, and systemd as pid 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import way_of_cgroups
from tests.servers.machine import WAYS, Finished, Machine, boot_files
from tests.waiting import PATIENCE

CLONE = Path(__file__).parents[2]
OTHERS = [way for way in WAYS if way != way_of_cgroups()]
WITHIN_S = 400.0 * PATIENCE
ONLY_THERE = {
    "systemd": "test_a_server_has_a_scope_with_its_limits_until_it_ends",
    "v2": "test_the_hub_itself_goes_into_a_leaf",
    "v1": "test_a_hierarchy_that_cannot_be_used_is_said_and_the_rest_is",
}


def marked() -> list[str]:
    """The modules with tests of cgroups: to collect all of them would take longer than to run these."""
    modules = (path.relative_to(CLONE) for path in sorted((CLONE / "tests").rglob("test_*.py")))
    return [str(path) for path in modules if "pytest.mark.cgroups" in (CLONE / path).read_text()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Finished]]]:
    """All machines at once: each is busy on one core most of the time."""
    boot_files()
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-v", "-o", "timeout=120"]
    argv += ["--durations=4", "-m", "cgroups", *marked()]
    env = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTHONPATH": str(CLONE),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DAAS_TEST_REQUIRE": "all",
    }
    with ThreadPoolExecutor() as pool:
        machines = {way: Machine(tmp_path_factory.mktemp(way), way) for way in OTHERS}
        try:
            yield {
                way: pool.submit(machine.run, argv, cwd=CLONE, env=env, within_s=WITHIN_S)
                for way, machine in machines.items()
            }
        finally:
            for machine in machines.values():
                machine.end()


@pytest.mark.needs("root", "vm")
@pytest.mark.timeout(WITHIN_S + 30)
@pytest.mark.parametrize("way", OTHERS)
def test_limits_hold_on_other_machines(runs: dict[str, Future[Finished]], way: str) -> None:
    """What a machine says is in its output; a failure there reads as one here."""
    seen = runs[way].result()
    assert seen.status == 0, f"{seen.output}\n--- console:\n{seen.console[-3000:]}"
    assert f"::{ONLY_THERE[way]} PASSED" in seen.output, seen.output
