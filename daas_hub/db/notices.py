"""What a person should know about one of her servers, for example when and why it was stopped."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update

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


class Notices:
    """The notices of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, account_id: str, server_name: str, text: str, *, now: datetime) -> None:
        """Tell a person something about one of her servers."""
        row = insert(notices).values(account_id=account_id, server_name=server_name, text=text, at=now)
        self._db.write(lambda c: c.execute(row) and None)

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

    def dismiss(self, id: int, *, now: datetime, account_id: str | None = None) -> None:
        """Hide one; idempotent. With ``account_id`` only where it is that account's own."""
        change = update(notices).where(notices.c.id == id, notices.c.dismissed_at.is_(None))
        if account_id is not None:
            change = change.where(notices.c.account_id == account_id)
        self._db.write(lambda c: c.execute(change.values(dismissed_at=now)) and None)
