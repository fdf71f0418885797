"""core/share.py: who is next among those whom the hub itself lets wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.models import Resource
from daas_hub.core.share import WINDOW, Use, Waiting, order, share

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEEK_S = WINDOW.total_seconds()
CORES, GPUS = Resource.CORES, Resource.GPUS


def waits(who: str, *, minutes: int = 0, cores: float = 1, name: str = "") -> Waiting:
    return Waiting(name or who, who, T0 + timedelta(minutes=minutes), {CORES: cores})


def use(used_weeks: float, limit: float | None) -> Use:
    """So many cores during the whole window."""
    return Use(used_weeks * WEEK_S, limit)


ANN_BOB = [waits("ann"), waits("bob", minutes=1)]
TABLE = [
    # who waits, what they used, the order
    ([], {}, ""),
    (ANN_BOB, {}, "ann bob"),
    (list(reversed(ANN_BOB)), {}, "ann bob"),
    (ANN_BOB, {"ann": {CORES: use(1, 4)}, "bob": {CORES: use(1, 8)}}, "bob ann"),
    (ANN_BOB, {"ann": {CORES: use(2, 8)}, "bob": {CORES: use(1, 4)}}, "ann bob"),
    # Nothing used is the smallest share, whoever waits longer.
    (ANN_BOB, {"ann": {CORES: use(0.1, 4)}, "bob": {CORES: use(0, 4)}}, "bob ann"),
    # The resource of which she used most of her share counts.
    (ANN_BOB, {"ann": {CORES: use(1, 8), GPUS: use(1, 2)}, "bob": {CORES: use(2, 8)}}, "bob ann"),
    # No limit: measured by the largest of those who wait.
    (ANN_BOB, {"ann": {CORES: use(4, None)}, "bob": {CORES: use(1, 8)}}, "bob ann"),
    (ANN_BOB, {"ann": {CORES: use(1, None)}, "bob": {CORES: use(4, 8)}}, "ann bob"),
    (ANN_BOB, {"ann": {CORES: use(2, None)}, "bob": {CORES: use(1, None)}}, "bob ann"),
    # Who may use nothing is last.
    (ANN_BOB, {"ann": {CORES: use(0, 0)}, "bob": {CORES: use(7, 8)}}, "bob ann"),
]


@pytest.mark.parametrize(("waiting", "used", "expected"), TABLE)
def test_the_smallest_share_is_first_then_who_waits_longest(
    waiting: list[Waiting], used: dict[str, dict[Resource, Use]], expected: str
) -> None:
    assert " ".join(one.launch_id for one in order(waiting, used)) == expected


def test_many_of_one_person_take_turns_with_others() -> None:
    hers = [waits("ann", minutes=i, name=f"ann{i}") for i in range(3)]
    his = [waits("bob", minutes=10 + i, name=f"bob{i}") for i in range(2)]
    even = {"ann": {CORES: use(1, 8)}, "bob": {CORES: use(1, 8)}}
    assert [one.launch_id for one in order([*hers, *his], even)] == ["ann0", "bob0", "ann1", "bob1", "ann2"]


def test_a_share_says_how_much_of_it_is_used() -> None:
    half = {CORES: use(2, 4)}
    assert share({CORES: 2 * WEEK_S}, half, {}) == pytest.approx(0.5)
    assert share({}, half, {}) == 0
    assert share({CORES: 0.0}, {CORES: use(0, 0)}, {}) == math.inf
