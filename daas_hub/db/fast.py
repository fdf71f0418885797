"""The two moments of ``reserve`` as plain driver calls: look, then write. Every start waits for them (goal P12).

The statement layer above the driver costs more than the statements themselves here: about 100 µs for each of
seven. So these few are written out: for SQLite one after the other, for PostgreSQL, where each is a round trip, as
one statement each. Everything else goes through SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from daas_hub.core import quota
from daas_hub.core.models import Limit, Resource, Who
from daas_hub.core.quota import Amounts

from .types import dump_json, from_us

_BALANCE = "SELECT scope, servers, cores_m, memory_bytes, gpus FROM balance WHERE scope"
_THERE = (
    "SELECT (SELECT id FROM launch WHERE id = ?), "
    "(SELECT id FROM launch WHERE account_id = ? AND server_name = ? AND state <> 'ended')"
)
_LIMITS = "SELECT id, who, name, resource, amount, selector, window_s, starts_at, ends_at FROM limits WHERE name"
_ADD = (
    "UPDATE balance SET servers = servers + ?, cores_m = cores_m + ?, memory_bytes = memory_bytes + ?, gpus = gpus + ? "
    "WHERE scope"
)
_SCOPES = "INSERT INTO launch_scope (launch_id, scope)"

_PG_LOOK = """
WITH held AS MATERIALIZED (
  SELECT scope, servers, cores_m, memory_bytes, gpus FROM balance WHERE scope = ANY(%s) ORDER BY scope FOR UPDATE
)
SELECT
  (SELECT json_agg(json_build_array(scope, servers, cores_m, memory_bytes, gpus)) FROM held),
  (SELECT id FROM launch WHERE id = %s),
  (SELECT id FROM launch WHERE account_id = %s AND server_name = %s AND state <> 'ended'),
  (SELECT json_agg(json_build_array(
     id, who, name, resource, amount, selector, window_s, starts_at, ends_at)) FROM limits WHERE name = ANY(%s))
"""


@dataclass(frozen=True)
class Seen:
    """What a reservation is decided on, all of it of one moment."""

    used: Mapping[str, Amounts]
    same: str | None
    """The launch of this id, where there is one already."""
    other: str | None
    """The active launch of the same server."""
    limits: Sequence[Limit]


def look(c: Connection, scopes: Sequence[str], names: Sequence[str], server: tuple[str, str, str]) -> Seen:
    """Balances (locked in the order of ``scopes``, which is sorted), launches and limits.

    ``names``: whose limits; ``server``: launch id, account id, server name. A scope without a balance is missing in
    ``used``.
    """
    with _driver(c) as raw:
        if c.dialect.name == "sqlite":
            balances = raw.execute(f"{_BALANCE} IN ({_marks(len(scopes))})", scopes).fetchall()
            same, other = raw.execute(_THERE, server).fetchone()
            limits = raw.execute(f"{_LIMITS} IN ({_marks(len(names))})", names).fetchall()
        else:
            found = raw.execute(_PG_LOOK, (list(scopes), *server, list(names))).fetchone()
            balances, same, other, limits = found[0] or (), found[1], found[2], found[3] or ()
    used = {row[0]: Amounts(*row[1:]) for row in balances}
    return Seen(used, same, other, [_limit(row) for row in limits])


def write(c: Connection, launch: Mapping[str, Any], scopes: Sequence[str], counted: Amounts) -> None:
    """Launch, scopes and balances; ``look`` found a balance of each scope."""
    values = [dump_json(value) if isinstance(value, dict) else value for value in launch.values()]
    insert = _insert(tuple(launch))
    with _driver(c) as raw:
        if c.dialect.name == "sqlite":
            raw.execute(insert, values)
            pairs = [part for scope in scopes for part in (launch["id"], scope)]
            raw.execute(f"{_SCOPES} VALUES {_marks(len(scopes), '(?, ?)')}", pairs)
            raw.execute(f"{_ADD} IN ({_marks(len(scopes))})", [*counted, *scopes])
        else:
            raw.execute(_pg_write(insert), [*values, *counted, list(scopes), launch["id"], list(scopes)])


@contextmanager
def _driver(c: Connection) -> Iterator[Any]:
    """The driver's own connection; its errors come out as SQLAlchemy's, so that they are translated in one place."""
    dbapi: Any = c.dialect.dbapi
    try:
        yield c.connection.driver_connection
    except dbapi.Error as error:
        raise DBAPIError.instance(None, None, error, dbapi.Error, dialect=c.dialect) from error


@cache
def _marks(n: int, mark: str = "?") -> str:
    return ", ".join([mark] * n)


@cache
def _insert(columns: tuple[str, ...]) -> str:
    return f"INSERT INTO launch ({', '.join(columns)}) VALUES ({_marks(len(columns))})"  # noqa: S608  our own names


@cache
def _pg_write(insert: str) -> str:
    """All three in one statement; foreign keys are looked at when it is over."""
    parts = f"WITH made AS ({insert}), added AS ({_ADD} = ANY(?)) {_SCOPES} SELECT ?, unnest(?::text[])"
    return parts.replace("?", "%s")


def _limit(row: Sequence[Any]) -> Limit:
    limit_id, who, name, resource, amount, selector, window_s, starts_at, ends_at = row
    return Limit(
        id=limit_id,
        who=Who(who),
        name=name,
        resource=Resource(resource),
        amount=quota.plain(Resource(resource), amount),
        selector=selector,
        window_s=window_s or None,
        starts_at=None if starts_at is None else from_us(starts_at),
        ends_at=None if ends_at is None else from_us(ends_at),
    )
