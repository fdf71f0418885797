"""What a person should know about one of her servers, for example when and why it was stopped."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from .engine import Database
from .schema import notices


@dataclass(frozen=True)
class Notice:
    """One notice; shown until it is dismissed."""

    id: int
    account_id: str
    server_name: str
    at: datetime
    text: str
    dismissed_at: datetime | None
    launch_id: str | None = None
    """It is about this launch as it is, and is taken away with its end."""


def add(
    c: Connection, account_id: str, server_name: str, text: str, now: datetime, launch_id: str | None = None
) -> None:
    """Tell a person something about one of her servers."""
    values = {"account_id": account_id, "server_name": server_name, "text": text, "at": now, "launch_id": launch_id}
    c.execute(insert(notices).values(**values))


def warn(c: Connection, account_id: str, server_name: str, launch_id: str, text: str, now: datetime) -> None:
    """The same, about a launch while it runs; what was told once is not told again, also where it was dismissed."""
    told = select(notices.c.id).where(
        notices.c.account_id == account_id, notices.c.launch_id == launch_id, notices.c.text == text
    )
    if c.execute(told.limit(1)).first() is None:
        add(c, account_id, server_name, text, now, launch_id)


def take_away(c: Connection, account_id: str, launch_id: str, now: datetime, *, but: str = "", like: str = "") -> None:
    """Hide what was told of a launch as it was; ``like``: only what begins so, ``but``: not this one."""
    change = update(notices).where(
        notices.c.account_id == account_id, notices.c.launch_id == launch_id, notices.c.dismissed_at.is_(None)
    )
    if like:
        change = change.where(notices.c.text.startswith(like, autoescape=True), notices.c.text != but)
    c.execute(change.values(dismissed_at=now))


class Notices:
    """The notices of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, account_id: str, server_name: str, text: str, *, now: datetime) -> None:
        """Tell a person something about one of her servers."""
        self._db.write(add, account_id, server_name, text, now)

    def list(
        self, account_id: str, server_name: str | None = None, *, dismissed: bool = False, limit: int = 20
    ) -> builtins.list[Notice]:
        """Notices of an account, newest first; those that were dismissed only on demand."""
        query = select(notices).where(notices.c.account_id == account_id)
        if server_name is not None:
            query = query.where(notices.c.server_name == server_name)
        if not dismissed:
            query = query.where(notices.c.dismissed_at.is_(None))
        query = query.order_by(notices.c.at.desc(), notices.c.id.desc()).limit(limit)
        return self._db.read(lambda c: [Notice(**row._mapping) for row in c.execute(query)])

    def launches(self) -> builtins.list[str]:
        """Launches of which something is told as long as they run."""
        query = select(notices.c.launch_id).where(notices.c.launch_id.is_not(None), notices.c.dismissed_at.is_(None))
        return self._db.read(lambda c: [str(one) for one in c.execute(query.distinct()).scalars()])

    def announce(
        self, account_id: str, server_name: str, launch_id: str, text: str, *, like: str, now: datetime
    ) -> None:
        """Tell something about a launch in the place of what began with ``like``; an empty ``text``: nothing more.

        What was told once is not told again, also where it was dismissed.
        """
        self._db.write(_announce, account_id, server_name, launch_id, text, like, now)

    def dismiss(self, id: int, *, now: datetime, account_id: str | None = None) -> None:
        """Hide one; idempotent. With ``account_id`` only where it is that account's own."""
        change = update(notices).where(notices.c.id == id, notices.c.dismissed_at.is_(None))
        if account_id is not None:
            change = change.where(notices.c.account_id == account_id)
        self._db.write(lambda c: c.execute(change.values(dismissed_at=now)) and None)


def _announce(
    c: Connection, account_id: str, server_name: str, launch_id: str, text: str, like: str, now: datetime
) -> None:
    take_away(c, account_id, launch_id, now, but=text, like=like)
    if text:
        warn(c, account_id, server_name, launch_id, text, now)
