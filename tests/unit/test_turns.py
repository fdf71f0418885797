"""core/turns.py: how many of those who wait for a place may go, and what they are told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daas_hub.core.capacity import Capacity, Room
from daas_hub.core.models import Charge
from daas_hub.core.turns import Asks, Bounds, Holding, lacks, promised, take, waits, waits_since

GIB = 2**30
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE, TWO, HALF = Asks(1, GIB), Asks(2, GIB), Asks(0.5, GIB)
NONE = Holding()


@pytest.mark.parametrize(
    ("request_", "charge", "asks"),
    [
        ({"resources": {"cpu_limit": 4, "cpu_guarantee": 0.5}}, Charge(cores=4), Asks(0.5, 0)),
        ({"resources": {"cpu_limit": 4, "cpu_guarantee": None}}, Charge(cores=4), Asks(4, 0)),
        ({"resources": {"cpu_limit": 4, "cpu_guarantee": 0}}, Charge(cores=4), Asks(0, 0)),
        ({"resources": {"mem_limit_bytes": GIB}}, Charge(memory_bytes=7), Asks(0, GIB)),
        # A row of an older version has what it counts for only; what nothing bounds takes nothing.
        ({}, Charge(cores=2, memory_bytes=GIB), TWO),
        ({}, Charge(), Asks()),
    ],
)
def test_a_launch_takes_its_guarantee_else_its_limit(request_: dict[str, object], charge: Charge, asks: Asks) -> None:
    assert Asks.of(request_, charge) == asks


@pytest.mark.parametrize(
    ("line", "held", "bounds", "go", "why"),
    [
        ([], NONE, Bounds(1), "", ""),
        ([ONE, ONE], NONE, Bounds(), "ab", ""),
        ([ONE, ONE, ONE], NONE, Bounds(2), "ab", "2 servers are being started there already"),
        ([ONE], Holding(1), Bounds(1), "", "1 server is being started there already"),
        # What runs is not being started, and has its room.
        ([ONE], Holding(0, 3), Bounds(1, Room(4)), "a", ""),
        ([ONE], Holding(0, 3.5), Bounds(0, Room(4)), "", "it is full: 1 core needed, 0.5 cores of 4 free"),
        ([ONE, ONE], NONE, Bounds(0, Room(None, GIB)), "a", "it is full: 1 GiB of memory needed, 0 B free"),
        # Nobody overtakes: the half core that is free is for her who is next.
        ([TWO, HALF], Holding(0, 3.5), Bounds(0, Room(4)), "", "it is full: 2 cores needed, 0.5 cores of 4 free"),
        # More is held than there is: the room was made smaller.
        ([HALF], Holding(0, 6), Bounds(0, Room(4)), "", "it is full: 0.5 cores needed, 0 cores of 4 free"),
    ],
)
def test_who_may_go(line: list[Asks], held: Holding, bounds: Bounds, go: str, why: str) -> None:
    assert take(list(zip("abc", line, strict=False)), held, bounds) == (tuple(go), why)


def test_a_bound_is_known_as_one() -> None:
    assert [b.any for b in (Bounds(), Bounds(1), Bounds(0, Room(1)), Bounds(0, Room(None, 1)))] == [False, *[True] * 3]
    assert [b.has_room for b in (Bounds(1), Bounds(0, Room(1)))] == [False, True]
    assert lacks(Bounds(), Holding(1000, 1000, 10**15), ONE) == ""


def test_a_place_tells_the_room_that_is_kept_there_and_not_what_was_measured() -> None:
    seen = Capacity("local", NOW, free_cores=0.1, free_memory_bytes=GIB, total=Room(8, 16 * GIB, {"": 0}))
    (told,) = promised([seen], Bounds(0, Room(4)), Holding(1, 3, 2 * GIB))
    # Memory is not kept: nobody waits for it.
    assert (told.free_cores, told.free_memory_bytes) == (1, 16 * GIB)
    assert told.total == Room(4, 16 * GIB, {"": 0})
    (told,) = promised([seen], Bounds(0, Room(None, 4 * GIB)), Holding(1, 3, 6 * GIB))
    assert (told.free_cores, told.free_memory_bytes) == (8, 0)


def test_what_is_said() -> None:
    assert waits("this machine", 1, "it is full") == (
        "Waiting in this hub's own queue, next in line. This machine: it is full."
    )
    assert waits("SLURM", 12, "") == "Waiting in this hub's own queue, number 12 in line."


def test_a_place_in_the_line_outlives_the_launch_that_had_it() -> None:
    assert waits_since({}, NOW) == NOW
    assert waits_since({"queued_since": "2026-03-01T11:00:00+00:00"}, NOW) == datetime(2026, 3, 1, 11, tzinfo=UTC)
