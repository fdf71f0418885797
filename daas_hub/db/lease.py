"""One holder at a time: culler and reconciler act only while they hold the lease of their name."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, or_, select

from .engine import Database, insert
from .schema import lease


class Leases:
    """The leases of a ledger. Times are the callers' clocks: they must agree to within a part of ``ttl_s``."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def acquire(self, name: str, holder: str, ttl_s: float, now: datetime, *, gone: str = "") -> bool:
        """Take or extend a lease until ``now`` + ``ttl_s`` seconds; False while somebody else holds it.

        ``gone``: a holder that is known to be no more, whose lease need not run out first.
        """
        return self._db.write(_acquire, name, holder, ttl_s, now, gone)

    def held(self, name: str) -> tuple[str, datetime] | None:
        """Who has the lease, and until when; it may have run out."""
        query = select(lease.c.holder, lease.c.until_at).where(lease.c.name == name)
        row = self._db.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else (str(row.holder), row.until_at)

    def release(self, name: str, holder: str) -> None:
        """Give a lease back; does nothing where somebody else holds it."""
        gone = delete(lease).where(lease.c.name == name, lease.c.holder == holder)
        self._db.write(lambda c: c.execute(gone) and None)


def _acquire(c: Connection, name: str, holder: str, ttl_s: float, now: datetime, gone: str) -> bool:
    wanted = {"holder": holder, "until_at": now + timedelta(seconds=ttl_s)}
    statement = insert(c, lease).values(name=name, **wanted)
    free = or_(lease.c.holder.in_((holder, gone)), lease.c.until_at <= now)
    c.execute(statement.on_conflict_do_update(index_elements=["name"], set_=wanted, where=free))
    # The row is ours or locked against others now, so what it says stays true until the commit.
    held_by = c.execute(select(lease.c.holder).where(lease.c.name == name)).scalar()
    return bool(held_by == holder)
