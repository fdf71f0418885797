"""The end of a launch in the ledger, as its place accounts for it.

Rows of ``usage`` that are closed are never changed: what they have too much or too little is a row more, with the
difference as its amounts and with its source and reason. Each function is part of one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from daas_hub.core import quota
from daas_hub.core.books import Ran, Stretch, before, charge_given, differences, used
from daas_hub.core.grants import Booked
from daas_hub.core.models import LaunchState
from daas_hub.core.quota import Amounts

from . import balances, usage
from .rows import COLUMNS, LaunchRow, load, load_one
from .schema import launch
from .schema import usage as intervals
from .schema_books import books_due
from .types import from_us, to_us


def book(c: Connection, row: LaunchRow, scopes: Sequence[str], booked: Booked, now: datetime) -> int:
    """Make the use of an ended launch what its place says; how many rows that took. The scopes are locked.

    What is not final is remembered, to be asked for again.
    """
    if booked.final:
        c.execute(delete(books_due).where(books_due.c.launch_id == row.id))
    else:
        due(c, row.id, now)
    have = [stretch(one) for one in rows_of(c, row.id)]
    # One that has had GPUs in one of its runs need not have had any in another.
    tracked = any(run.given.gpus for run in booked.runs)
    charges = [charge_given(row.charge, run.given, tracks_gpus=tracked) for run in booked.runs]
    ran = [
        Ran(seconds(run.from_at), seconds(run.to_at), run.counted_s, quota.amounts(charge))
        for run, charge in zip(booked.runs, charges, strict=True)
    ]
    if not booked.final:
        if not ran:
            return 0
        # Of earlier runs only we know.
        kept = before(have, ran[0].from_s)
    else:
        kept = []
    reason = f"as accounted by {booked.source}"
    return correct(c, row.id, scopes, have, [*kept, *used(have, ran)], booked.source, reason)


def late(c: Connection, launch_id: str, booked: Booked | None, now: datetime) -> int:
    """The same for a launch that was settled before, where it was still due; None: its place keeps no books."""
    row = load_one(c, launch_id, lock=True)
    waits = c.execute(select(books_due.c.launch_id).where(books_due.c.launch_id == launch_id)).first() is not None
    if row is None or booked is None or not waits or row.state is not LaunchState.ENDED:
        forget(c, launch_id)
        return 0
    scopes = quota.scopes(row.account_id, row.groups, row.project)
    balances.lock(c, scopes)
    return book(c, row, scopes, booked, now)


def due(c: Connection, launch_id: str, now: datetime) -> None:
    """Remember that a launch is still to be accounted for."""
    if c.execute(select(books_due.c.launch_id).where(books_due.c.launch_id == launch_id)).first() is None:
        c.execute(insert(books_due).values(launch_id=launch_id, since=now))


def all_due(c: Connection, at_most: int) -> list[tuple[LaunchRow, datetime]]:
    """Ended launches that are still to be accounted for, and since when; of more than that other ones each time."""
    # Some may never be accounted for: they must not keep the others from being asked for.
    query = select(books_due.c.launch_id, books_due.c.since).order_by(func.random()).limit(at_most)
    since = {row.launch_id: row.since for row in c.execute(query)}
    rows = load(c, select(*COLUMNS).where(launch.c.id.in_(list(since)))) if since else []
    return [(row, since[row.id]) for row in rows]


def forget(c: Connection, launch_id: str) -> None:
    """Ask for it no more: what was counted stays."""
    c.execute(delete(books_due).where(books_due.c.launch_id == launch_id))


def of_launch(c: Connection, launch_id: str) -> dict[str, int]:
    """What a launch has used in all: seconds × servers, thousandths of cores, bytes, GPUs, as in ``usage_hour``."""
    sums = dict.fromkeys(("server_s", "core_ms", "memory_byte_s", "gpu_s"), 0)
    for one in rows_of(c, launch_id):
        counted = stretch(one, one.counted_to_at)
        for name, amount in zip(sums, counted.amounts, strict=True):
            sums[name] += amount * (counted.to_s - counted.from_s)
    return sums


# ---------------------------------------------------------------- rows


def correct(
    c: Connection,
    launch_id: str,
    scopes: Sequence[str],
    have: Iterable[Stretch],
    want: Iterable[Stretch],
    source: str,
    reason: str,
) -> int:
    """Add rows until each second has what is wanted; how many it took. The scopes' balances are locked."""
    found = differences(have, want)
    for one in found:
        usage.add_closed(c, launch_id, scopes, one.amounts, _at(one.from_s), _at(one.to_s), source, reason)
    return len(found)


def rows_of(c: Connection, launch_id: str) -> list[Any]:
    """All intervals of a launch, in their order."""
    query = select(intervals).where(intervals.c.launch_id == launch_id).order_by(intervals.c.from_at, intervals.c.id)
    return list(c.execute(query))


def stretch(row: Any, to_at: datetime | None = None) -> Stretch:
    """An interval as a value; ``to_at`` where it is open."""
    return Stretch(seconds(row.from_at), seconds(to_at or row.to_at), amounts_of(row))


def amounts_of(row: Any) -> Amounts:
    """What an interval counts for."""
    return Amounts(row.servers, row.cores_m, row.memory_bytes, row.gpus)


def seconds(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return to_us(moment) // 1_000_000


def _at(seconds: int) -> datetime:
    return from_us(seconds * 1_000_000)
