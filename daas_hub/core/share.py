"""In which order our own waiting launches are taken: by what each person has used of what she may use. Pure.

SLURM's queue keeps SLURM's order; this is for launches that the hub itself holds back (state QUEUED).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from .models import Resource

WINDOW = timedelta(days=7)
"""Over which use counts."""
ASSUMED = timedelta(hours=1)
"""A launch that was taken counts as so much use already, so that one person's many take turns with others'."""


@dataclass(frozen=True)
class Use:
    """What a person has used, and may use, of one resource. The unit is its own times seconds: core-seconds."""

    used: float
    limit: float | None
    """What she may have at once; 0 forbids. None: no limit."""


@dataclass(frozen=True)
class Waiting:
    """One launch that waits."""

    launch_id: str
    account_id: str
    since: datetime
    asks: Mapping[Resource, float]
    """What it would take at once."""


def order(
    waiting: Iterable[Waiting], used: Mapping[str, Mapping[Resource, Use]], *, window: timedelta = WINDOW
) -> tuple[Waiting, ...]:
    """Who is next, first to last: the smallest share first, then who waits longest.

    ``used`` holds each account's figures over the window. A share is the largest of used / (limit x window) over
    the resources. Who has no limit on a resource is measured by the largest limit among those who wait, so that
    nobody is first only because nothing bounds her; where nobody has one, by the most that anybody used.
    """
    left = sorted(waiting, key=lambda one: (one.since, one.launch_id))
    accounts = dict.fromkeys(one.account_id for one in left)
    figures = {account: used.get(account, {}) for account in accounts}
    bounds = _bounds(figures, window)
    counted = {account: {kind: use.used for kind, use in of.items()} for account, of in figures.items()}
    taken: list[Waiting] = []
    while left:
        # min() keeps the earlier of equals: who waits longer.
        following = min(left, key=lambda one: share(counted[one.account_id], figures[one.account_id], bounds, window))
        left.remove(following)
        taken.append(following)
        mine = counted[following.account_id]
        for kind, amount in following.asks.items():
            mine[kind] = mine.get(kind, 0.0) + amount * ASSUMED.total_seconds()
    return tuple(taken)


def share(
    counted: Mapping[Resource, float],
    figures: Mapping[Resource, Use],
    bounds: Mapping[Resource, float],
    window: timedelta = WINDOW,
) -> float:
    """How much of what she may use a person has used: 0 nothing, 1 all; infinite where she may use nothing."""
    shares = [0.0]
    for kind, amount in counted.items():
        limit = figures[kind].limit if kind in figures else None
        bound = bounds.get(kind, 0.0) if limit is None else limit * window.total_seconds()
        if limit == 0:
            return math.inf
        shares.append(amount / bound if bound else 0.0)
    return max(shares)


def _bounds(figures: Mapping[str, Mapping[Resource, Use]], window: timedelta) -> dict[Resource, float]:
    """By what those without a limit are measured."""
    bounds: dict[Resource, float] = {}
    for kind in Resource:
        uses = [of[kind] for of in figures.values() if kind in of]
        limits = [use.limit * window.total_seconds() for use in uses if use.limit]
        bounds[kind] = max(limits, default=max((use.used for use in uses), default=0.0))
    return bounds
