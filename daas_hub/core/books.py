"""How use that was counted becomes what a place says was used: a few rows more, none changed. Pure.

A stretch is (from, to, amounts) in whole seconds since 1970. A correction is a stretch whose amounts are added, so they
may be negative; corrected once, a second time there is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from .grants import Given
from .models import Charge
from .quota import Amounts

NOTHING = Amounts()


class Stretch(NamedTuple):
    """Amounts that were used from one second to another."""

    from_s: int
    to_s: int
    amounts: Amounts


class Ran(NamedTuple):
    """One run, with what it counts for."""

    from_s: int
    to_s: int
    counted_s: int
    """Less than its length where it was suspended."""
    amounts: Amounts


def charge_given(asked: Charge, given: Given, *, tracks_gpus: bool = False) -> Charge:
    """What a launch counts for that was given this: more or less than was asked.

    What is not told stays as it was asked. So do GPUs where none are told of a launch that asked for some: it would not
    run without them, and a site that does not track them tells none. ``tracks_gpus``: this one is known to.
    """
    return replace(
        asked,
        cores=asked.cores if given.cores is None else float(given.cores),
        memory_bytes=asked.memory_bytes if given.memory_bytes is None else given.memory_bytes,
        gpus=(given.gpus or 0) if tracks_gpus else given.gpus or asked.gpus,
    )


def differences(have: Iterable[Stretch], want: Iterable[Stretch]) -> list[Stretch]:
    """What must be added to ``have`` so that each second has what ``want`` has in it; empty where it has."""
    changes: dict[int, Amounts] = {}
    for stretches, sign in ((want, 1), (have, -1)):
        for one in stretches:
            changes[one.from_s] = changes.get(one.from_s, NOTHING).plus(one.amounts, sign)
            changes[one.to_s] = changes.get(one.to_s, NOTHING).plus(one.amounts, -sign)
    found: list[Stretch] = []
    level, since = NOTHING, 0
    for at in sorted(changes):
        if changes[at] == NOTHING:
            continue
        if level != NOTHING:
            found.append(Stretch(since, at, level))
        level, since = level.plus(changes[at]), at
    return found


def sum_of(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same, one after the other and none over another; what comes to nothing is left out."""
    return differences((), stretches)


def before(stretches: Iterable[Stretch], end_s: int) -> list[Stretch]:
    """The part of them that lies before a moment."""
    return [Stretch(one.from_s, min(one.to_s, end_s), one.amounts) for one in stretches if one.from_s < end_s]


def used(have: Iterable[Stretch], runs: Sequence[Ran]) -> list[Stretch]:
    """What runs used. ``have``, what was counted so far, tells when one of them was suspended."""
    counted = sum_of(have)
    return [
        Stretch(from_s, to_s, run.amounts)
        for run in runs
        for from_s, to_s in _counted(run, [one for one in counted if one.from_s < run.to_s and one.to_s > run.from_s])
    ]


def _counted(run: Ran, counted: Sequence[Stretch]) -> list[tuple[int, int]]:
    """The parts of a run that count, as many seconds in all as it says.

    Gaps in what was counted are where it was suspended. What they have too little lies at its end; what they have too
    much is taken from the last ones.
    """
    pieces, at = [], run.from_s
    for one, after in pairwise(counted):
        if after.from_s > one.to_s:
            pieces.append((at, one.to_s))
            at = after.from_s
    pieces.append((at, run.to_s))
    left = min(run.counted_s, run.to_s - run.from_s) - sum(to_s - from_s for from_s, to_s in pieces)
    for number in reversed(range(len(pieces))):
        from_s, to_s = pieces[number]
        room = pieces[number + 1][0] - to_s if number + 1 < len(pieces) else 0
        change = min(max(left, from_s - to_s), room)
        pieces[number] = (from_s, to_s + change)
        left -= change
    return [piece for piece in pieces if piece[1] > piece[0]]
