"""Links between what a provider says and an account of this site: looked up, made, asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from daas_hub.core.errors import LinkRefused, NotFound
from daas_hub.core.linking import (
    AUTHORITATIVE,
    INVITE,
    MAX_TEXT_CHARS,
    Key,
    Proof,
    Verdict,
    label,
    removable,
    site_key,
)
from daas_hub.core.models import Identity
from daas_hub.db.accounts import AccountRow
from daas_hub.db.invites import hash_of
from daas_hub.db.ledger import Ledger
from daas_hub.db.links import Link, Request

OTHER_PERSON = (
    "At your identity provider you are signed in as somebody else now than when you began. Nothing was linked. "
    "Sign in again."
)
NOT_UNLINKED = (
    "At your identity provider you are signed in as somebody else than whom you wanted to unlink. Nothing was changed."
)
NO_LINK = "This sign-in is no way into your account (any more). Nothing was changed."
UNKNOWN = "The account that you proved is not known here any more. Nothing was linked. Sign in again."


class Told(Protocol):
    """Tells people what was done, after it was: takes it, waits for nothing, never fails."""

    def made(self, account_id: str, label: str, issuer: str) -> None:
        """The owner, of a way in."""
        ...

    def ended(self, account_id: str, label: str, issuer: str) -> None:
        """The owner, that one is no more."""
        ...


@dataclass
class Linking:
    """One ledger's links. ``run``: calls the ledger off the loop. ``record``: an identity's account, kept now."""

    ledger: Ledger
    run: Callable[..., Coroutine[Any, Any, Any]]
    record: Callable[[Identity], Awaitable[AccountRow]]
    keep: Callable[[Coroutine[Any, Any, Any]], Any]
    now: Callable[[], datetime]
    told: Told

    async def opens(self, came_by: Identity, issuers: Sequence[str]) -> Key | None:
        """The directory entry of the account that an identity opens; None: it is not linked.

        Raises NotFound where the account has no entry in a directory of these. Raises LedgerBusy.
        """
        key = (came_by.issuer, came_by.subject)
        link: Link | None = await self.run(self.ledger.links.find, key)
        if link is None:
            return None
        hers: list[Link] = await self.run(self.ledger.links.of, link.account_id)
        found = site_key([each.key for each in hers], issuers)
        if found is None:
            raise NotFound(f"The account {link.account_id} has no entry in the directories of this hub.")
        return found

    async def user_of(self, key: Key) -> str:
        """The hub user whose account an identity opens; empty: it is not linked. Raises LedgerBusy."""
        account: AccountRow | None = await self.run(self.ledger.accounts.by_identity, *key)
        return account.user_name if account is not None else ""

    def used(self, came_by: Identity) -> None:
        """An identity opened its account; written when there is time."""
        self.keep(self.run(self.ledger.links.used, (came_by.issuer, came_by.subject), self.now()))

    async def link(self, came_by: Identity, proof: Proof) -> None:
        """Make the link that was proved. Raises LinkRefused, LedgerBusy."""
        if not proof.of(came_by):
            raise LinkRefused(OTHER_PERSON, reason="link_other_person", log_message=f"{proof.came_by} began")
        if proof.how == INVITE:
            await self._redeem(came_by, proof.site[1])
            return
        account: AccountRow | None = await self.run(self.ledger.accounts.by_identity, *proof.site)
        if account is None:
            raise LinkRefused(UNKNOWN, reason="link_unknown", log_message=f"no account of {proof.site}")
        key, name = (came_by.issuer, came_by.subject), label(came_by)
        by = f"user:{account.user_name or account.name}"
        more = {"label": name, "proof": proof.how, "by": by, "now": self.now()}
        if await self.run(self.ledger.links.add, key, account.id, **more):
            self.told.made(account.id, name, came_by.issuer)

    async def vouched(self, came_by: Identity, site: Identity) -> bool:
        """Link what an authoritative issuer says belongs together; False: that was unlinked before.

        Raises LinkRefused, LedgerBusy, AccountRefused.
        """
        account = await self.record(site)
        key, name = (came_by.issuer, came_by.subject), label(came_by)
        more = {"label": name, "proof": AUTHORITATIVE, "by": f"issuer:{came_by.issuer}", "now": self.now()}
        try:
            if await self.run(self.ledger.links.add, key, account.id, **more):
                self.told.made(account.id, name, came_by.issuer)
        except LinkRefused as error:
            if error.reason != f"link_{Verdict.ENDED}":
                raise
            return False
        return True

    async def _redeem(self, came_by: Identity, code_hash: str) -> None:
        key, name = (came_by.issuer, came_by.subject), label(came_by)
        redeem = self.ledger.invites.redeem
        account_id, made = await self.run(redeem, code_hash, key, label=name, now=self.now())
        if made:
            self.told.made(account_id, name, came_by.issuer)

    async def invited(self, came_by: Identity, code: str) -> Proof | None:
        """What an invitation proves; None where it is no good. Nothing is spent yet. Raises LedgerBusy."""
        code_hash = hash_of(code)
        good: bool = await self.run(self.ledger.invites.is_open, code_hash, self.now())
        return Proof((came_by.issuer, came_by.subject), (INVITE, code_hash), INVITE) if good else None

    async def of_hers(self, site: Key, link_id: int) -> Link | None:
        """The link of this number where it is a way into the account of this directory entry. Raises LedgerBusy."""
        account: AccountRow | None = await self.run(self.ledger.accounts.by_identity, *site)
        hers: list[Link] = await self.run(self.ledger.links.of, account.id) if account is not None else []
        return next((link for link in hers if link.id == link_id and removable(link.key)), None)

    async def unlink(self, came_by: Identity, proof: Proof) -> tuple[str, str]:
        """Take away the link whose two sides she proved; her user's name and what it was called.

        Raises LinkRefused, LedgerBusy.
        """
        if not proof.of(came_by):
            raise LinkRefused(NOT_UNLINKED, reason="link_other_person", log_message=f"{proof.came_by} began")
        account: AccountRow | None = await self.run(self.ledger.accounts.by_identity, *proof.site)
        link: Link | None = await self.run(self.ledger.links.find, proof.came_by)
        if account is None or link is None:
            raise LinkRefused(NO_LINK, reason="link_unknown", log_message=f"no link of {proof.came_by}")
        by = f"user:{account.user_name or account.name}"
        more = {"by": by, "now": self.now(), "why": "by herself", "account_id": account.id}
        try:
            await self.run(self.ledger.links.remove, link.id, **more)
        except NotFound as error:
            raise LinkRefused(NO_LINK, reason="link_unknown", log_message=f"{link.key} is not hers") from error
        self.told.ended(account.id, link.label, link.issuer)
        return account.user_name, link.label or link.subject

    async def audit(self, who: str, action: str, where: str) -> None:
        """Keep what happened at the door. Raises LedgerBusy."""
        await self.run(self.ledger.audit.append, self.now(), who, action, f"address:{where}")

    async def ask(self, came_by: Identity, way: str, text: str) -> Request:
        """Keep a request for access. Raises LinkRefused, LedgerBusy."""
        body = {
            "version": 1,
            "issuer": came_by.issuer,
            "subject": came_by.subject,
            "way": way,
            "label": label(came_by),
            "mail": came_by.mail,
            "text": text[:MAX_TEXT_CHARS],
        }
        made: Request = await self.run(self.ledger.links.ask, (came_by.issuer, came_by.subject), body, now=self.now())
        return made

    async def asked(self, came_by: Identity) -> Request | None:
        """The newest request of this identity."""
        found: Request | None = await self.run(self.ledger.links.asked, (came_by.issuer, came_by.subject))
        return found
