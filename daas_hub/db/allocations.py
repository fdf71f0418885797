"""Which identity has which number of the allocator's ranges. Nothing that was given away is given away again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, select, text, union_all

from daas_hub.core.allocation import SOURCE, Kind, Ranges
from daas_hub.core.errors import AccountRefused

from .engine import Database
from .schema import account_rows, account_uid, accounts, links, projects
from .schema_ids import allocated_ids, allocated_names

Key = tuple[str, str]
"""Issuer and subject of an identity."""
_LOCK_KEY = 0x64616173_6964
"""The PostgreSQL advisory lock of whoever gives a number away ("daasid")."""


@dataclass(frozen=True)
class Allocation:
    """What an identity was given. ``named``: whether the name that was asked about is hers."""

    uid: int
    gid: int
    named: bool


class Allocations:
    """The allocator's rows of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, key: Key, name: str) -> Allocation | None:
        """What this identity has; None: nothing yet."""
        return self._db.read(_get, key, name)

    def next_free(self, kind: Kind, ranges: Ranges) -> int | None:
        """The number that would be given away next; None: none is left. Nothing is reserved by it."""
        return self._db.read(_next_free, kind, ranges)

    def take(self, key: Key, name: str, uid: int, gid: int, now: datetime) -> bool:
        """Give both numbers and the name to an identity that has none yet; False where one was taken meanwhile.

        Raises AccountRefused where the name was another identity's.
        """
        return self._db.write(_take, key, name, uid, gid, now)

    def take_name(self, key: Key, name: str, now: datetime) -> None:
        """The identity is called ``name`` now. Raises AccountRefused where the name was another identity's."""
        self._db.write(_take_name, key, name, now)

    def skip(self, kind: Kind, number: int, note: str, now: datetime) -> None:
        """Never give this number away: it is in use, ``note`` says where."""
        self._db.write(_skip, kind, number, note, now)


def _get(c: Connection, key: Key, name: str) -> Allocation | None:
    t = allocated_ids
    query = select(t.c.kind, t.c.number).where(t.c.issuer == key[0], t.c.subject == key[1])
    numbers = {row.kind: row.number for row in c.execute(query)}
    if not numbers:
        return None
    return Allocation(numbers[Kind.UID], numbers[Kind.GID], _owner(c, name) == key)


def _owner(c: Connection, name: str) -> Key | None:
    row = c.execute(select(allocated_names).where(allocated_names.c.name == name)).one_or_none()
    return None if row is None else (row.issuer, row.subject)


def _used(kind: Kind, first: int, last: int) -> Any:
    """Numbers between two that this ledger knows of, given away by us or by anybody else."""
    known = [allocated_ids.c.number, accounts.c[kind], account_uid.c[kind], account_rows.c[kind]]
    if kind is Kind.GID:
        known.append(projects.c.gid)
    parts = [select(column.label("number")).where(column.between(first, last)) for column in known]
    parts[0] = parts[0].where(allocated_ids.c.kind == kind)
    return union_all(*parts)


def _next_free(c: Connection, kind: Kind, ranges: Ranges) -> int | None:
    t = allocated_ids
    for first, last in ranges:
        mine = select(t.c.number).where(t.c.kind == kind, t.c.number.between(first, last))
        newest = c.execute(mine.order_by(t.c.number.desc()).limit(1)).scalar_one_or_none()
        begin = first if newest is None else newest + 1
        used = set(c.execute(_used(kind, begin, last)).scalars())
        number = next((n for n in range(begin, last + 1) if n not in used), None)
        if number is not None:
            return number
    return None


def _take(c: Connection, key: Key, name: str, uid: int, gid: int, now: datetime) -> bool:
    _lock(c)
    if _get(c, key, name) is None:
        numbers = _had(c, key)
        if numbers is None:
            numbers = ((Kind.UID, uid), (Kind.GID, gid))
            if any(c.execute(_used(kind, number, number)).first() for kind, number in numbers):
                return False
        for kind, number in numbers:
            _insert(c, allocated_ids, key, now, kind=kind, number=number)
    _take_name(c, key, name, now)
    return True


def _had(c: Connection, key: Key) -> tuple[tuple[Kind, int], ...] | None:
    """What an account was given by a ledger that was lost since: what ran as it brought the account back."""
    query = select(accounts).join(links, links.c.account_id == accounts.c.id)
    row = c.execute(query.where(links.c.issuer == key[0], links.c.subject == key[1])).one_or_none()
    if row is None or SOURCE not in row.source.split("+"):
        return None
    return (Kind.UID, row.uid), (Kind.GID, row.gid)


def _take_name(c: Connection, key: Key, name: str, now: datetime) -> None:
    _lock(c)
    owner = _owner(c, name)
    if owner == key:
        return
    theirs = select(links.c.id).join(accounts, accounts.c.id == links.c.account_id).where(accounts.c.name == name)
    others = theirs.where((links.c.issuer != key[0]) | (links.c.subject != key[1]))
    if owner is not None or c.execute(others.limit(1)).first() is not None:
        raise AccountRefused(
            f"The name {name} is or was another account's here, and names are never given away again: files and rights "
            "go by them. Whoever administers your sign-in can give you another login name.",
            reason="name_taken",
        )
    _insert(c, allocated_names, key, now, name=name)


def _skip(c: Connection, kind: Kind, number: int, note: str, now: datetime) -> None:
    _lock(c)
    t = allocated_ids
    if c.execute(select(t.c.number).where(t.c.kind == kind, t.c.number == number)).first() is None:
        _insert(c, allocated_ids, ("", ""), now, kind=kind, number=number, note=note)


def _insert(c: Connection, table: Table, key: Key, now: datetime, **values: Any) -> None:
    c.execute(insert(table).values(issuer=key[0], subject=key[1], given_at=now, **values))


def _lock(c: Connection) -> None:
    """One at a time; SQLite has one writer anyway."""
    if c.dialect.name == "postgresql":
        c.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
