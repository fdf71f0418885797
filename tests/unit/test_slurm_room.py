"""core/slurm_room.py: partitions as places."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.models import Capacity
from daas_hub.core.room import Fit, Need, judge
from daas_hub.core.slurm_cluster import EVERYBODY, Node, Partition
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
