"""core/slurm_room.py: partitions as places."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daas_hub.core.capacity import Capacity
from daas_hub.core.models import Resources
from daas_hub.core.room import Fit, Need, judge, need_of
from daas_hub.core.slurm_cluster import EVERYBODY, Node, Partition
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_room import capacities

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
GIB = 2**30
NONE: frozenset[str] = frozenset()


def node(name: str, cpus_free: int, *, state: str = "mixed", gpus_free: int = 0) -> Node:
    return Node(name, name, name, state, 16, cpus_free, 64 * GIB, 32 * GIB, {"a100": 2}, {"a100": gpus_free})


def partition(name: str, *nodes: Node, default: bool = False, state: str = "UP") -> Partition:
    lists = (EVERYBODY, NONE, EVERYBODY, EVERYBODY, NONE)
    return Partition(name, default, state, None, None, *lists, False, False, nodes or (node("n1", 8),))


def only(*partitions: Partition) -> Capacity:
    (seen,) = capacities("slurm", partitions, as_of=NOW)
    return seen


def test_the_default_partition_is_first_and_what_is_not_for_all_is_left_out() -> None:
    listed = [
        partition("long"),
        replace(partition("secret"), hidden=True),
        replace(partition("kept"), needs_reservation=True),
        partition("short", default=True),
        partition("gpu"),
    ]
    seen = capacities("slurm", listed, as_of=NOW, pending={"gpu": 3}, starts_at={"long": NOW})
    assert [each.partition for each in seen] == ["short", "long", "gpu"]
    assert [each.pending for each in seen] == [0, 0, 3]
    assert all(each.by_limit for each in seen)
    assert [each.starts_at for each in seen] == [None, NOW, None]


@pytest.mark.parametrize(
    ("seen", "need", "fit"),
    [
        (only(partition("p", node("a", 8))), Need(cores=8), Fit.NOW),
        (only(partition("p", node("a", 8), node("b", 8))), Need(cores=12), Fit.LATER),
        (only(partition("p", node("a", 8), node("b", 8))), Need(cores=17), Fit.NEVER),
        (only(partition("p", node("a", 8))), Need(memory_bytes=33 * GIB), Fit.LATER),
        (only(partition("p", node("a", 8, gpus_free=1))), Need(gpus=1, gpu_type="a100"), Fit.NOW),
        (only(partition("p", node("a", 8, gpus_free=1))), Need(gpus=1, gpu_type="h100"), Fit.NEVER),
        (only(partition("p", node("a", 0, state="down"))), Need(cores=1), Fit.LATER),
        (only(partition("p", state="DRAIN")), Need(cores=1), Fit.LATER),
    ],
)
def test_a_server_must_find_all_on_one_node(seen: Capacity, need: Need, fit: Fit) -> None:
    assert judge(seen, need, now=NOW + timedelta(seconds=1), stale_s=60).fit is fit


def test_a_partition_that_is_not_up_says_so() -> None:
    seen = only(partition("p", state="DRAIN"))
    assert judge(seen, Need(cores=1), now=NOW, stale_s=60).reason == "the partition takes no new jobs"


# ---------------------------------------------------------------- when there will be room


def job(number: int, state: str, **changes: Any) -> Job:
    plain: dict[str, Any] = {each.name: None for each in fields(Job) if each.init}
    texts = dict.fromkeys(("user", "reason", "comment"), "")
    plain |= {**texts, "id": number, "state": state, "uid": 1, "partition": "p", "host": "", "submitted_at": NOW}
    plain |= {
        "elapsed_s": 0,
        "priority": 1,
        "cpus": 8,
        "memory_bytes": 8 * GIB,
        "gpus": 0,
        "gpu_types": (),
    }
    return Job(**{**plain, **changes})  # type: ignore[arg-type]


def running(number: int, host: str, minutes: int, **changes: Any) -> Job:
    """One that has 10 minutes behind it, and these before it."""
    started_at = NOW - timedelta(minutes=10)
    return job(number, "RUNNING", **{"host": host, "started_at": started_at, "limit_s": (10 + minutes) * 60, **changes})


def waits(number: int, minutes: int | None) -> Job:
    return job(number, "PENDING", expected_at=None if minutes is None else NOW + timedelta(minutes=minutes))


FULL = partition("p", node("a", 0), node("b", 0))


@pytest.mark.parametrize(
    ("jobs", "need", "minutes"),
    [
        ([running(1, "a", 12), running(2, "b", 5)], Need(cores=8), 5),
        ([running(1, "a", 12), running(2, "b", 5)], Need(cores=16), None),
        ([running(1, "a", 12), running(2, "a", 30), running(3, "b", 5)], Need(cores=16), 30),
        ([running(1, "elsewhere", 5)], Need(cores=8), None),
        ([running(1, "a", 12, limit_s=None)], Need(cores=8), None),
        ([running(1, "a", 12, gpus=1)], Need(cores=8, gpus=1, gpu_type="a100"), 12),
        ([running(1, "a", 12, gpu_types=(("a100", 1),))], Need(gpus=1), 12),
        ([running(1, "a", 12), waits(2, 40)], Need(cores=8), 40),
        ([running(1, "a", 12), waits(2, None)], Need(cores=8), None),
        # Held, or waiting for another job or for next year: nobody waits for these.
        ([running(1, "a", 12), replace(waits(2, None), priority=0, reason="JobHeldUser")], Need(cores=8), 12),
        ([running(1, "a", 12), replace(waits(2, None), reason="Dependency")], Need(cores=8), 12),
        ([running(1, "a", 12), replace(waits(2, 600_000), reason="BeginTime")], Need(cores=8), 12),
        ([running(1, "a", -2)], Need(cores=8), 0),
    ],
)
def test_a_full_partition_tells_by_when_there_is_room(jobs: list[Job], need: Need, minutes: int | None) -> None:
    (seen,) = capacities("slurm", [FULL], as_of=NOW, jobs=jobs)
    verdict = judge(seen, need, now=NOW, stale_s=60)
    assert verdict.fit is Fit.LATER
    assert verdict.starts_at == (None if minutes is None else NOW + timedelta(minutes=minutes))


def test_what_a_partition_gives_of_a_node_bounds_what_fits() -> None:
    seen = only(replace(partition("p", node("a", 16)), max_cpus_per_node=4, max_memory_per_cpu_bytes=GIB))
    assert judge(seen, Need(cores=4, memory_bytes=4 * GIB), now=NOW, stale_s=60).fit is Fit.NOW
    assert judge(seen, Need(cores=5), now=NOW, stale_s=60).fit is Fit.NEVER
    verdict = judge(seen, Need(cores=4, memory_bytes=5 * GIB), now=NOW, stale_s=60)
    assert (verdict.fit, "the largest has 4 GiB of memory" in verdict.reason) == (Fit.NEVER, True)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(), Need(cores=1)),
        (Resources(cpu_limit=0.5), Need(cores=1)),
        (Resources(cpu_guarantee=2.5, mem_guarantee_bytes=9), Need(cores=3, memory_bytes=9)),
        (
            Resources(cpu_limit=4, cpu_guarantee=0.5, mem_limit_bytes=GIB, mem_guarantee_bytes=9, gpus=1),
            Need(4, GIB, 1),
        ),
    ],
)
def test_a_job_has_its_limit_in_whole_cores(resources: Resources, expected: Need) -> None:
    assert need_of(resources, {}, by_limit=True) == expected
