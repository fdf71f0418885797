"""Who may come by which way, as synchronous functions over the ledger (see queries)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.linking import MAX_TEXT_CHARS, is_directory
from daas_hub.db.ledger import Ledger
from daas_hub.db.links import Link, Request

from .access import Person


@dataclass(frozen=True)
class Way:
    """One way into an account, as a page shows it."""

    id: int
    label: str
    issuer: str
    made_at: datetime
    last_used_at: datetime | None
    proof: str
    directory: bool


def of_user(ledger: Ledger, user: str) -> Sequence[Way]:
    """All ways into the account that the hub user of this name has; none where no account of hers is known."""
    account = ledger.accounts.by_user_name(user)
    return [] if account is None else [_way(link) for link in ledger.links.of(account.id)]


def unlink(ledger: Ledger, user: str, link: str, why: str, person: Person, now: datetime) -> Link:
    """Take one way of a person's account away. Raises NotFound, InvalidOptions, LinkRefused."""
    account = ledger.accounts.by_user_name(user)
    if account is None:
        raise NotFound("No account of this user is known.")
    return ledger.links.remove(_number(link), by=person.by, now=now, why=_why(why), account_id=account.id)


def invite(ledger: Ledger, account_id: str, why: str, person: Person, now: datetime) -> str:
    """Make a code with which one sign-in becomes a way into this account. Raises NotFound, InvalidOptions."""
    code = secrets.token_urlsafe(24)
    ledger.invites.make(code, account_id, by=person.by, now=now, why=_why(why))
    return code


def requests(ledger: Ledger) -> Sequence[Request]:
    """Those that wait, oldest first."""
    return ledger.links.requests()


def accept(ledger: Ledger, request: str, account_id: str, why: str, person: Person, now: datetime) -> Request:
    """Link who asked to an account. Raises NotFound, LinkRefused."""
    return ledger.links.accept(_number(request), account_id, by=person.by, now=now, why=why[:MAX_TEXT_CHARS])


def refuse(ledger: Ledger, request: str, why: str, person: Person, now: datetime) -> Request:
    """With a reason, which is shown to who asked. Raises NotFound, InvalidOptions."""
    return ledger.links.refuse(_number(request), by=person.by, now=now, why=_why(why))


def _way(link: Link) -> Way:
    shown = link.label or link.subject
    return Way(
        link.id, shown, link.issuer, link.made_at, link.last_used_at, link.proof, directory=is_directory(link.issuer)
    )


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotFound("There is nothing of this number.")
    return int(text)


def _why(text: str) -> str:
    if not text.strip():
        raise InvalidOptions("A reason is needed: it is kept in the audit, and shown to whom it concerns.", field="why")
    return text.strip()[:MAX_TEXT_CHARS]
