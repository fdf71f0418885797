"""Intervals of use, and their sums by the hour. Whole seconds, so that the parts of an interval add up exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from daas_hub.core.models import Charge
from daas_hub.core.quota import Amounts, amounts

from . import balances
from .engine import insert as upsert
from .schema import launch, usage, usage_hour
from .types import from_us, to_us

HOUR_S = 3600
_BEGIN = insert(usage)
_CHANGE = update(usage).where(usage.c.id == bindparam("b_id"))
_OPEN = select(usage).where(usage.c.launch_id == bindparam("b_id"), usage.c.to_at.is_(None))


def whole_seconds(moment: datetime) -> datetime:
    """The moment without its fraction of a second."""
    return moment.replace(microsecond=0)


def open_interval(c: Connection, launch_id: str, charge: Charge, now: datetime, *, source: str) -> None:
    """Begin to count a launch; does nothing while an interval is open."""
    open_amounts(c, launch_id, amounts(charge), now, source=source)


def open_amounts(c: Connection, launch_id: str, counted: Amounts, now: datetime, *, source: str) -> None:
    """The same in whole units."""
    at = whole_seconds(now)
    if _open_row(c, launch_id) is None:
        values = {"launch_id": launch_id, "from_at": at, "counted_to_at": at, "source": source}
        c.execute(_BEGIN, {**values, **balances.to_columns(counted)})


def add_closed(
    c: Connection,
    launch_id: str,
    scopes: Sequence[str],
    counted: Amounts,
    from_at: datetime,
    to_at: datetime,
    source: str,
    reason: str,
) -> None:
    """A correction: an interval of the past, whose amounts may be negative. The scopes' balances are locked."""
    values = {"launch_id": launch_id, "from_at": from_at, "to_at": to_at, "counted_to_at": to_at, "source": source}
    c.execute(_BEGIN, {**values, "reason": reason, **balances.to_columns(counted)})
    _count(c, scopes, counted, from_at, to_at)


def close_interval(c: Connection, launch_id: str, scopes: Sequence[str], now: datetime, *, reason: str = "") -> None:
    """End the open interval, if any, and count what was not counted yet. Never before its begin: clocks jump."""
    row = _open_row(c, launch_id)
    if row is None:
        return
    to_at = max(whole_seconds(now), row.from_at)
    # What was counted beyond a clock that jumped back is taken out again: the sums follow the row.
    _count(c, scopes, _amounts(row), row.counted_to_at, to_at)
    c.execute(_CHANGE, {"b_id": row.id, "to_at": to_at, "counted_to_at": to_at, "reason": reason})


MAX_COUNTED = 50
"""Launches that are counted in one transaction: starts of the same groups wait for it."""


def count_open(c: Connection, now: datetime, *, limit: int = MAX_COUNTED) -> int:
    """Bring the sums of open intervals up to the last full hour; returns how many were behind (at most ``limit``)."""
    hour = whole_seconds(now).replace(minute=0, second=0)
    # The launch first, as everywhere: who settles it waits here, or we wait there, never both.
    behind = (
        select(usage.c.launch_id)
        .join(launch, launch.c.id == usage.c.launch_id)
        .where(usage.c.to_at.is_(None), usage.c.counted_to_at < hour)
        .order_by(usage.c.launch_id)
        .limit(limit)
        .with_for_update(of=launch)
    )
    ids = list(c.execute(behind).scalars())
    scopes = {launch_id: balances.scopes_of(c, launch_id) for launch_id in ids}
    # Whoever changes sums of a scope holds its balance: so nobody holds one hour and waits for another.
    balances.lock(c, sorted({scope for each in scopes.values() for scope in each}))
    for launch_id in ids:
        row = _open_row(c, launch_id)
        if row is not None and row.counted_to_at < hour:
            _count(c, scopes[launch_id], _amounts(row), row.counted_to_at, hour)
            c.execute(update(usage).where(usage.c.id == row.id).values(counted_to_at=hour))
    return len(ids)


def by_hour(from_s: int, to_s: int) -> Iterator[tuple[int, int]]:
    """(hour since 1970, seconds in it) of an interval; negative seconds where ``to_s`` lies before ``from_s``."""
    sign = 1 if to_s >= from_s else -1
    at, end = sorted((from_s, to_s))
    while at < end:
        hour = at // HOUR_S
        until = min(end, (hour + 1) * HOUR_S)
        yield hour, sign * (until - at)
        at = until


def hour_rows(scopes: Sequence[str], counted: Amounts, from_at: datetime, to_at: datetime) -> list[dict[str, Any]]:
    """What an interval adds to ``usage_hour``."""
    return [
        {
            "scope": scope,
            "hour": hour,
            "server_s": seconds * counted.servers,
            "core_ms": seconds * counted.cores,
            "memory_byte_s": seconds * counted.memory_bytes,
            "gpu_s": seconds * counted.gpus,
        }
        for scope in sorted(scopes)
        for hour, seconds in by_hour(to_us(from_at) // 1_000_000, to_us(to_at) // 1_000_000)
    ]


def hour_begins(hour: int) -> datetime:
    """The moment at which an hour of ``usage_hour`` begins."""
    return from_us(0) + timedelta(hours=hour)


def _count(c: Connection, scopes: Sequence[str], counted: Amounts, from_at: datetime, to_at: datetime) -> None:
    rows = hour_rows(scopes, counted, from_at, to_at)
    if not rows:
        return
    statement = upsert(c, usage_hour)
    sums = {
        name: usage_hour.c[name] + statement.excluded[name]
        for name in ("server_s", "core_ms", "memory_byte_s", "gpu_s")
    }
    c.execute(statement.on_conflict_do_update(index_elements=["scope", "hour"], set_=sums), rows)


def _open_row(c: Connection, launch_id: str) -> Any:
    return c.execute(_OPEN, {"b_id": launch_id}).one_or_none()


def _amounts(row: Any) -> Amounts:
    return Amounts(row.servers, row.cores_m, row.memory_bytes, row.gpus)
