"""Invitations: a code that an administrator hands over, with which one identity becomes a way into one account.

Kept as rows of ``requests`` of a kind of their own: who made it, when it was used, and its hash; the code is nowhere.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from daas_hub.core.errors import LinkRefused, NotFound
from daas_hub.core.linking import Key

from . import audit
from .engine import Database
from .links import add_link
from .schema import accounts, requests

INVITE = "invite"
LASTS = timedelta(days=7)
"""Handed over on a Friday it is good on the next one's shift; forgotten in a drawer it is not."""
NO_GOOD = "This code is not good: it was used already, is too old, or was never given out. Nothing was changed."


def hash_of(code: str) -> str:
    """What is kept of a code. It has 192 random bits, so that no slow hash is needed."""
    return hashlib.sha256(code.strip().encode()).hexdigest()


class Invites:
    """The invitations of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def make(self, code: str, account_id: str, *, by: str, now: datetime, why: str) -> None:
        """Keep a new code. Raises NotFound where there is no such account."""
        self._db.write(_make, hash_of(code), account_id, by, now, why)

    def is_open(self, code_hash: str, now: datetime) -> bool:
        """Whether this code could be used now."""
        return self._db.read(_is_open, code_hash, now)

    def redeem(self, code_hash: str, key: Key, *, label: str, now: datetime) -> tuple[str, bool]:
        """Link whoever brings it, and spend it: both or neither. The account, and whether a link was made.

        Raises LinkRefused.
        """
        return self._db.write(_redeem, code_hash, key, label, now)


def _make(c: Connection, code_hash: str, account_id: str, by: str, now: datetime, why: str) -> None:
    if c.execute(select(accounts.c.id).where(accounts.c.id == account_id)).first() is None:
        raise NotFound("There is no such account.")
    body = {"version": 1, "account_id": account_id, "by": by, "why": why, "until": (now + LASTS).isoformat()}
    c.execute(insert(requests).values(kind=INVITE, subject=code_hash, body=body, made_at=now))
    new = {"until": body["until"]}
    audit.write(c, at=now, who=by, action="invite", subject=f"account:{account_id}", new=new, why=why)


def _is_open(c: Connection, code_hash: str, now: datetime) -> bool:
    row = c.execute(_open(code_hash)).one_or_none()
    return row is not None and _in_time(row.body, now)


def _redeem(c: Connection, code_hash: str, key: Key, label: str, now: datetime) -> tuple[str, bool]:
    # Spent before anything else: of two at once the second one finds nothing that is open.
    row = c.execute(_open(code_hash)).one_or_none()
    if row is None or not _in_time(row.body, now):
        raise LinkRefused(NO_GOOD, reason="invite")
    values = {"decided_at": now, "decided_by": f"{key[0]} {key[1]}", "decision": "used"}
    spent = update(requests).where(requests.c.id == row.id, requests.c.decided_at.is_(None)).values(**values)
    if c.execute(spent).rowcount != 1:
        raise LinkRefused(NO_GOOD, reason="invite")
    account_id = str(row.body["account_id"])
    return account_id, add_link(c, key, account_id, label, "invitation", str(row.body["by"]), now)


def _open(code_hash: str) -> Select[Any]:
    return select(requests).where(
        requests.c.kind == INVITE, requests.c.subject == code_hash, requests.c.decided_at.is_(None)
    )


def _in_time(body: dict[str, object], now: datetime) -> bool:
    return now < datetime.fromisoformat(str(body["until"]))
