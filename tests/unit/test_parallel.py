"""Which worker of a run gets which tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import parallel
from tests.parallel import API, CLUSTER, UNITS, Unit, Worker, choose, plan

CLONE = Path(__file__).resolve().parents[2]
FILES = {"short": Unit("", 1.0), "long": Unit("", 100.0)}
PODS = {"pods": Unit(CLUSTER, 50.0), "more pods": Unit(CLUSTER, 60.0), "images": Unit(CLUSTER, 200.0, last=True)}
POLICIES = {"policies": Unit(API, 40.0)}


@pytest.mark.parametrize(
    ("waiting", "may_sit", "built", "chosen"),
    [
        (FILES | PODS | POLICIES, True, True, "more pods"),
        (FILES | PODS | POLICIES, False, True, "long"),
        (FILES | PODS | POLICIES, True, False, "long"),
        (PODS | POLICIES, True, False, "more pods"),
        ({"pods": PODS["pods"], "images": PODS["images"]}, True, True, "pods"),
        (PODS | POLICIES, False, False, "policies"),
        (PODS, False, True, None),
    ],
)
def test_a_worker_gets(waiting: Mapping[str, Unit], may_sit: bool, built: bool, chosen: str | None) -> None:
    assert choose(waiting, may_sit=may_sit, built=built) == chosen
    assert choose(dict(reversed(waiting.items())), may_sit=may_sit, built=built) == chosen


def test_tests_of_one_file_or_one_api_server_stay_together() -> None:
    found = [
        ("a::one", "a", []),
        ("a::two", "a", ["root"]),
        ("a::pod", "a", ["kube_rig", "root"]),
        ("b::image", "b", ["kubernetes", "images"]),
        ("b::pod", "b", ["kubernetes"]),
        ("c::policy", "c", ["kube_api"]),
        ("d::policy", "d", ["kube_api"]),
        ("e::people", "e", ["samba", "root"]),
        ("f::people", "f", ["samba"]),
        ("g::job", "g", ["slurm", "root"]),
        ("h::job", "h", ["slurm24"]),
        ("h::pod", "h", ["slurm", "kubernetes"]),
    ]
    names, units = plan(found)
    assert names["a::one"] == names["a::two"] != names["a::pod"]
    assert names["b::image"] == names["b::pod"]
    assert names["c::policy"] == names["d::policy"]
    assert units[names["a::one"]].rig == ""
    assert units[names["a::pod"]] == Unit(CLUSTER, parallel.DEFAULT_S)
    assert units[names["b::pod"]].last
    assert units[names["d::policy"]].rig == API
    assert names["e::people"] == names["f::people"] not in ("e", "f")
    assert names["g::job"] == names["h::job"] != names["h::pod"]
    assert units[names["h::pod"]].rig == CLUSTER


def test_what_shares_a_rig_is_as_long_as_all_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LONG", {"a": 100, "b": 50})
    found = [("a::one", "a", ["samba"]), ("a::two", "a", ["samba"]), ("b::one", "b", ["samba"]), ("c::one", "c", [])]
    names, units = plan(found)
    assert units[names["a::one"]].weight_s == 150 + parallel.DEFAULT_S
    assert units[names["c::one"]].weight_s == parallel.DEFAULT_S


def test_one_worker_is_left_for_tests_without_a_cluster() -> None:
    assert [parallel.seats(workers, others=True) for workers in (1, 2, 3, 5)] == [1, 1, 2, 2]
    # Nothing else waits: of two workers the second one gets a cluster, too, instead of going home.
    assert [parallel.seats(workers, others=False) for workers in (1, 2, 3, 5)] == [1, 2, 2, 2]


def test_files_said_to_be_long_exist() -> None:
    assert parallel.LONG
    assert [file for file in parallel.LONG if not (CLONE / file).is_file()] == []


def test_what_tests_need_is_written_before_the_controller_hears_that_a_worker_is_ready(tmp_path: Path) -> None:
    there: list[bool] = []

    class Ready:
        """As xdist's own plugin: it tells the controller, which reads the file when all workers have told it."""

        @pytest.hookimpl
        def pytest_collection_finish(self) -> None:
            there.append((tmp_path / UNITS).exists())

    worker = Worker.__new__(Worker)
    worker.folder = tmp_path
    manager = pytest.PytestPluginManager()
    manager.register(worker)
    # What is registered last is called first, unless it is told otherwise.
    manager.register(Ready())
    manager.hook.pytest_collection_finish(session=SimpleNamespace(items=[]))
    assert there == [True]
