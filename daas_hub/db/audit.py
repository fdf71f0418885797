"""Who changed what, when and why. Rows are only ever added: the database itself refuses anything else."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from daas_hub.core.models import Json

from .engine import Database
from .schema import audit


@dataclass(frozen=True)
class AuditRow:
    """One change."""

    id: int
    at: datetime
    who: str
    """``admin:<name>``, or the service that acted."""
    action: str
    subject: str
    """What was changed, as ``<kind>:<key>``."""
    old: Json | None
    new: Json | None
    why: str


class Audit:
    """The audit trail of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def append(
        self,
        at: datetime,
        who: str,
        action: str,
        subject: str,
        old: Json | None = None,
        new: Json | None = None,
        why: str = "",
    ) -> None:
        """Add one row in a transaction of its own; changes of the ledger write theirs in their own transaction."""
        self._db.write(write, at=at, who=who, action=action, subject=subject, old=old, new=new, why=why)

    def append_once(self, at: datetime, who: str, action: str, subject: str, new: Json | None, why: str) -> bool:
        """Add a row unless there is one of the same action and subject; whether it was added."""

        def add(c: Connection) -> bool:
            there = select(audit.c.id).where(audit.c.action == action, audit.c.subject == subject).limit(1)
            if c.execute(there).first() is not None:
                return False
            write(c, at=at, who=who, action=action, subject=subject, new=new, why=why)
            return True

        return self._db.write(add)

    def list(
        self, *, limit: int = 100, before: int | None = None, subject: str | None = None
    ) -> builtins.list[AuditRow]:
        """Rows, newest first; ``before`` is the id of the last row of the page before."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        return self._db.read(lambda c: [AuditRow(**row._mapping) for row in c.execute(query)])


def write(
    c: Connection,
    *,
    at: datetime,
    who: str,
    action: str,
    subject: str,
    old: Json | None = None,
    new: Json | None = None,
    why: str = "",
) -> None:
    """Add one row in the caller's transaction."""
    c.execute(insert(audit).values(at=at, who=who, action=action, subject=subject, old=old, new=new, why=why))
