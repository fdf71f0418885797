"""The sums of the ledger, made again from its rows and compared to the last unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, case, delete, func, insert, select, text

from daas_hub.core.quota import Amounts

from .engine import Database
from .schema import balance, launch, launch_scope, usage, usage_hour
from .usage import hour_rows

_BALANCE = ("servers", "cores_m", "memory_bytes", "gpus")
_HOUR = ("server_s", "core_ms", "memory_byte_s", "gpu_s")

Sums = dict[Any, tuple[int, ...]]


@dataclass(frozen=True)
class Difference:
    """One number that does not follow from the rows."""

    table: str
    key: str
    """Scope, or scope and hour since 1970; for an interval the launch's id."""
    column: str
    stored: int
    counted: int
    """What the rows say; the truth."""

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} is {self.stored}, the rows say {self.counted}"


def recount(db: Database, *, fix: bool = False) -> list[Difference]:
    """Compare balances and hours with the rows, in one transaction; ``fix`` writes what the rows say.

    With ``fix`` nobody else writes meanwhile. An empty list means: equal to the last unit.
    """
    return db.write(_fix) if fix else db.read(_compare_all)


def _compare_all(c: Connection) -> list[Difference]:
    if c.dialect.name == "postgresql":
        # All reads must see one moment; READ COMMITTED would give each statement its own.
        c.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    return _differences(c)


def _fix(c: Connection) -> list[Difference]:
    if c.dialect.name == "postgresql":
        c.exec_driver_sql("LOCK TABLE launch, launch_scope, usage, balance, usage_hour IN EXCLUSIVE MODE")
    found = _differences(c)
    if found:
        _replace(c, balance, ("scope",), _BALANCE, _counted_balances(c))
        _replace(c, usage_hour, ("scope", "hour"), _HOUR, _counted_hours(c))
    return found


def _differences(c: Connection) -> list[Difference]:
    found = [*_compare("balance", _BALANCE, _stored(c, balance, ("scope",), _BALANCE), _counted_balances(c))]
    hours = _stored(c, usage_hour, ("scope", "hour"), _HOUR)
    found += _compare("usage_hour", _HOUR, hours, _counted_hours(c))
    return [*found, *_intervals(c)]


def _compare(table: str, columns: tuple[str, ...], stored: Sums, counted: Sums) -> Iterator[Difference]:
    nothing = (0,) * len(columns)
    for key in sorted(stored.keys() | counted.keys()):
        pairs = zip(columns, stored.get(key, nothing), counted.get(key, nothing), strict=True)
        for column, is_there, should_be in pairs:
            if is_there != should_be:
                yield Difference(table, " ".join(map(str, key)), column, is_there, should_be)


def _stored(c: Connection, table: Table, key: tuple[str, ...], columns: tuple[str, ...]) -> Sums:
    query = select(*(table.c[name] for name in (*key, *columns)))
    return {tuple(row[: len(key)]): tuple(row[len(key) :]) for row in c.execute(query)}


def _counted_balances(c: Connection) -> Sums:
    sums = [func.sum(func.coalesce(launch.c[name], 0)) for name in _BALANCE]
    query = (
        select(launch_scope.c.scope, *sums)
        .join(launch, launch.c.id == launch_scope.c.launch_id)
        .where(text("launch.state <> 'ended'"))
        .group_by(launch_scope.c.scope)
    )
    return {(row[0],): tuple(int(n) for n in row[1:]) for row in c.execute(query)}


def _counted_hours(c: Connection) -> Sums:
    """Interval by interval, as they were counted; a query cannot cut them at full hours on both engines."""
    query = select(usage, launch_scope.c.scope).join(launch_scope, launch_scope.c.launch_id == usage.c.launch_id)
    sums: Sums = {}
    for row in c.execute(query.execution_options(yield_per=1000)):
        counted = Amounts(row.servers, row.cores_m, row.memory_bytes, row.gpus)
        for part in hour_rows([row.scope], counted, row.from_at, row.counted_to_at):
            key = (part["scope"], part["hour"])
            added = (part[name] for name in _HOUR)
            sums[key] = tuple(a + b for a, b in zip(sums.get(key, (0,) * len(_HOUR)), added, strict=True))
    return sums


def _intervals(c: Connection) -> Iterator[Difference]:
    """Running launches have at most one open interval (suspended: none), all others none."""
    ended = case((launch.c.state.in_(["running", "stopping"]), 0), else_=1)
    query = (
        select(launch.c.id, func.count())
        .join(usage, usage.c.launch_id == launch.c.id)
        .where(usage.c.to_at.is_(None), ended == 1)
        .group_by(launch.c.id)
    )
    for launch_id, n in c.execute(query):
        yield Difference("usage", launch_id, "open intervals", n, 0)


def _replace(
    c: Connection, table: Table, key: tuple[str, ...], columns: tuple[str, ...], counted: Mapping[Any, tuple[int, ...]]
) -> None:
    c.execute(delete(table))
    rows = [dict(zip((*key, *columns), (*k, *sums), strict=True)) for k, sums in counted.items()]
    if rows:
        c.execute(insert(table), rows)
