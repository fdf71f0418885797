"""Which identities open which account, and what people without one ask for.

Whatever changes is audited, and told to the owner of the account, in the same transaction.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from daas_hub.core.errors import LinkRefused, NotFound
from daas_hub.core.linking import AUTHORITATIVE, MAX_OPEN_REQUESTS, Key, Verdict, judge
from daas_hub.core.models import Json

from . import audit
from .engine import Database
from .engine import insert as upsert
from .schema import accounts, ended_links, links, notices, requests

ACCESS = "access"
"""The kind of requests of people who have no account here yet."""
USED_EVERY = timedelta(minutes=1)
"""A refresh of every open page is no reason to write."""
REFUSED = {
    Verdict.TAKEN: "This sign-in belongs to another account of this site already. Nothing was changed. An "
    "administrator of this service can say whose it is.",
    Verdict.DIRECTORY: "An entry of the directory is an account by itself; it is no way into another one.",
    Verdict.ENDED: "This sign-in was unlinked from the account before. It is linked again by a proof of both.",
    Verdict.FULL: "This account has as many ways in as it can have. Unlink one that is not used any more.",
}


@dataclass(frozen=True)
class Link:
    """One identity of an account."""

    id: int
    issuer: str
    subject: str
    account_id: str
    proof: str
    made_at: datetime
    label: str
    last_used_at: datetime | None

    @property
    def key(self) -> Key:
        """(issuer, subject)."""
        return self.issuer, self.subject


@dataclass(frozen=True)
class Request:
    """What somebody asks administrators for."""

    id: int
    kind: str
    subject: str
    body: Json
    made_at: datetime
    decided_at: datetime | None
    decided_by: str
    decision: str
    """``accepted``, ``refused``, or empty while it is open."""


class Links:
    """The links and requests of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, account_id: str) -> builtins.list[Link]:
        """All identities of an account, oldest first."""
        return self._db.read(_of, account_id)

    def find(self, key: Key) -> Link | None:
        """The link of an identity."""
        return self._db.read(_find, key)

    def add(self, key: Key, account_id: str, *, label: str, proof: str, by: str, now: datetime) -> bool:
        """Link an identity; True where it was not linked to this account before. Raises LinkRefused, NotFound."""
        return self._db.write(add_link, key, account_id, label, proof, by, now)

    def remove(self, link_id: int, *, by: str, now: datetime, why: str = "", account_id: str | None = None) -> Link:
        """Take a link away; with ``account_id`` only where it is that account's. Raises NotFound, LinkRefused."""
        return self._db.write(_remove, link_id, by, now, why, account_id)

    def used(self, key: Key, now: datetime) -> None:
        """An identity opened its account just now; written at most once a minute."""
        change = update(links).where(links.c.issuer == key[0], links.c.subject == key[1])
        old = links.c.last_used_at.is_(None) | (links.c.last_used_at < now - USED_EVERY)
        self._db.write(lambda c: c.execute(change.where(old).values(last_used_at=now)) and None)

    # ------------------------------------------------------------ requests

    def ask(self, key: Key, body: Json, *, now: datetime) -> Request:
        """Ask for access; who has an open request keeps that one. Raises LinkRefused where too many wait."""
        return self._db.write(_ask, key, body, now)

    def asked(self, key: Key) -> Request | None:
        """The newest request of an identity."""
        return self._db.read(_asked, key)

    def requests(self, *, still_open: bool = True, limit: int = 200) -> builtins.list[Request]:
        """Requests, oldest first where they are open, else newest first."""
        query = select(requests).where(requests.c.kind == ACCESS).limit(limit)
        if still_open:
            query = query.where(requests.c.decided_at.is_(None)).order_by(requests.c.id)
        else:
            query = query.where(requests.c.decided_at.is_not(None)).order_by(requests.c.id.desc())
        return self._db.read(lambda c: [_request(row) for row in c.execute(query)])

    def request(self, request_id: int) -> Request | None:
        """One request for access, open or decided."""
        query = select(requests).where(requests.c.kind == ACCESS, requests.c.id == request_id)
        row = self._db.read(lambda c: c.execute(query).one_or_none())
        return _request(row) if row is not None else None

    def accept(self, request_id: int, account_id: str, *, by: str, now: datetime, why: str = "") -> Request:
        """Link whoever asked to this account, and close the request: both or neither. Raises NotFound, LinkRefused."""
        return self._db.write(_accept, request_id, account_id, by, now, why)

    def refuse(self, request_id: int, *, by: str, now: datetime, why: str) -> Request:
        """Close a request without a link. Raises NotFound where it is closed already."""
        return self._db.write(_decide, request_id, "refused", by, now, why)


def _of(c: Connection, account_id: str) -> list[Link]:
    query = select(links).where(links.c.account_id == account_id).order_by(links.c.id)
    return [Link(**row._mapping) for row in c.execute(query)]


def _find(c: Connection, key: Key) -> Link | None:
    query = select(links).where(links.c.issuer == key[0], links.c.subject == key[1])
    row = c.execute(query).one_or_none()
    return Link(**row._mapping) if row is not None else None


def add_link(c: Connection, key: Key, account_id: str, label: str, proof: str, by: str, now: datetime) -> bool:
    """See Links.add."""
    # The account's row is locked: two browsers that link at once come one after the other.
    if c.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()).first() is None:
        raise NotFound("There is no such account.")
    holder = _find(c, key)
    hers = [link.key for link in _of(c, account_id)]
    ended = proof == AUTHORITATIVE and _ended(c, key, account_id)
    verdict = judge(key, account_id, holder.account_id if holder else None, hers, ended=ended)
    if verdict is Verdict.ALREADY:
        return False
    if verdict is Verdict.LINK:
        row = {"issuer": key[0], "subject": key[1], "account_id": account_id, "proof": proof, "made_at": now}
        made = upsert(c, links).values(**row, label=label).on_conflict_do_nothing(index_elements=["issuer", "subject"])
        # Two accounts that link the same identity at once lock different rows: the key itself decides.
        # (How many rows were written is not told alike by both engines.)
        c.execute(made)
        winner = _find(c, key)
        verdict = Verdict.LINK if winner is not None and winner.account_id == account_id else Verdict.TAKEN
    if verdict is not Verdict.LINK:
        raise LinkRefused(
            REFUSED[verdict], reason=f"link_{verdict}", log_message=f"{key} is not linked to {account_id}: {verdict}"
        )
    new = {"issuer": key[0], "subject": key[1], "proof": proof, "label": label}
    audit.write(c, at=now, who=by, action="link", subject=f"account:{account_id}", new=new)
    _tell(c, account_id, f"{label or key[1]} of {key[0]} can sign in to your account from now on.", now)
    return True


def _ended(c: Connection, key: Key, account_id: str) -> bool:
    t = ended_links.c
    query = select(t.ended_at).where(t.issuer == key[0], t.subject == key[1], t.account_id == account_id)
    return c.execute(query).first() is not None


def _tell(c: Connection, account_id: str, what: str, now: datetime) -> None:
    """The owner reads it on her home page until she dismisses it: whoever did it, it is her account."""
    text = f"{what} If this is not right, tell an administrator at once."
    c.execute(insert(notices).values(account_id=account_id, server_name="", at=now, text=text))


def _remove(c: Connection, link_id: int, by: str, now: datetime, why: str, account_id: str | None) -> Link:
    row = c.execute(select(links).where(links.c.id == link_id)).one_or_none()
    if row is None or account_id not in (None, row.account_id):
        raise NotFound("There is no such link.")
    link = Link(**row._mapping)
    if judge(link.key, link.account_id, None, ()) is Verdict.DIRECTORY:
        raise LinkRefused(REFUSED[Verdict.DIRECTORY], reason="link_directory")
    c.execute(delete(links).where(links.c.id == link_id))
    row_ended = {"issuer": link.issuer, "subject": link.subject, "account_id": link.account_id, "ended_at": now}
    c.execute(upsert(c, ended_links).values(**row_ended).on_conflict_do_nothing())
    old = {"issuer": link.issuer, "subject": link.subject, "proof": link.proof, "label": link.label}
    subject = f"account:{link.account_id}"
    audit.write(c, at=now, who=by, action="unlink", subject=subject, old=old, why=why)
    _tell(c, link.account_id, f"{link.label or link.subject} of {link.issuer} was unlinked from your account.", now)
    return link


def _subject(key: Key) -> str:
    return f"{key[0]} {key[1]}"


def _request(row: Row[Any]) -> Request:
    return Request(**row._mapping)


def _asked(c: Connection, key: Key) -> Request | None:
    query = select(requests).where(requests.c.kind == ACCESS, requests.c.subject == _subject(key))
    row = c.execute(query.order_by(requests.c.id.desc()).limit(1)).one_or_none()
    return _request(row) if row is not None else None


def _ask(c: Connection, key: Key, body: Json, now: datetime) -> Request:
    known = _asked(c, key)
    if known is not None and known.decided_at is None:
        return known
    waiting = (
        select(func.count()).select_from(requests).where(requests.c.kind == ACCESS, requests.c.decided_at.is_(None))
    )
    if c.execute(waiting).scalar_one() >= MAX_OPEN_REQUESTS:
        raise LinkRefused(
            "Too many requests for access wait to be decided. Ask an administrator of this service directly.",
            reason="requests_full",
        )
    c.execute(insert(requests).values(kind=ACCESS, subject=_subject(key), body=body, made_at=now))
    made = _asked(c, key)
    if made is None:
        raise NotFound("The request was not kept.")
    return made


def _accept(c: Connection, request_id: int, account_id: str, by: str, now: datetime, why: str) -> Request:
    request = _decide(c, request_id, "accepted", by, now, why)
    body = request.body
    add_link(c, (body["issuer"], body["subject"]), account_id, body["label"], "administrator", by, now)
    return request


def _decide(c: Connection, request_id: int, decision: str, by: str, now: datetime, why: str) -> Request:
    row = c.execute(select(requests).where(requests.c.id == request_id).with_for_update()).one_or_none()
    if row is None or row.kind != ACCESS or row.decided_at is not None:
        raise NotFound("There is no such open request.")
    body = {**row.body, "why": why}
    values = {"decided_at": now, "decided_by": by, "decision": decision, "body": body}
    c.execute(update(requests).where(requests.c.id == request_id).values(**values))
    subject = f"request:{request_id}"
    audit.write(c, at=now, who=by, action=f"request_{decision}", subject=subject, new=body, why=why)
    return _request(c.execute(select(requests).where(requests.c.id == request_id)).one())
