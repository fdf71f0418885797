"""What is done after a link or a request has changed, in the hub: sign-ins end, people get mail.

Administrators decide in the console, another process; it tells the hub here once the ledger has it.
"""

from __future__ import annotations

from typing import Any

from tornado import web

from daas_hub.auth.ending import end_sessions
from daas_hub.clients.mail import Letters
from daas_hub.core import letters
from daas_hub.core.letters import Letter
from daas_hub.core.linking import site_key
from daas_hub.db.links import Link, Request
from daas_hub.spawners.runtime import DaasHub

from .hubside import HubSide

UNLINKED = r"/api/daas/links/unlinked"
DECIDED = r"/api/daas/links/decided"


class LinkLetters:
    """Takes letters about links for sending; nobody waits for one."""

    def __init__(self, site: DaasHub, authenticator: Any, queue: Letters) -> None:
        self._site, self._authenticator, self._queue = site, authenticator, queue

    def made(self, account_id: str, label: str, issuer: str) -> None:
        """The owner is told of a way in."""

        async def write() -> Letter | None:
            to = await self._mail_of(account_id)
            return letters.link_made(to, label, issuer) if to else None

        self._queue.post(write)

    def ended(self, account_id: str, label: str, issuer: str) -> None:
        """The owner is told that one is no more."""

        async def write() -> Letter | None:
            to = await self._mail_of(account_id)
            return letters.link_ended(to, label, issuer) if to else None

        self._queue.post(write)

    def decided(self, request: Request) -> None:
        """Whoever asked is told, where her provider's word about her address is believed."""

        async def write() -> Letter | None:
            to = letters.address(request.body.get("mail"))
            accepted = request.decision == "accepted"
            return letters.decided(to, accepted=accepted, why=str(request.body.get("why") or "")) if to else None

        self._queue.post(write)

    async def _mail_of(self, account_id: str) -> str:
        """As her directory has it now. Raises DirectoryUnavailable, LedgerBusy."""
        hers: list[Link] = await self._site.run(self._site.ledger.links.of, account_id)
        directories = self._authenticator.directories
        key = site_key([link.key for link in hers], list(directories))
        entry = await directories[key[0]].active(key[1]) if key is not None else None
        return letters.address(entry.mail) if entry is not None else ""


class TellUnlinked(HubSide):
    """``POST`` with ``account_id``, ``user``, ``label``, ``issuer``: all her sign-ins end, and she gets a mail."""

    async def post(self) -> None:
        """204."""
        self.require_console()
        said = self.get_json_body() or {}
        fields = [said.get(name) for name in ("account_id", "user", "label", "issuer")]
        if not all(isinstance(value, str) for value in fields):
            raise web.HTTPError(400, "account_id, user, label and issuer are texts.")
        account_id, name, label, issuer = (str(value) for value in fields)
        user = self.find_user(name)
        if user is not None:
            end_sessions(self, user, keep_servers=True)
        self.authenticator.linking.told.ended(account_id, label, issuer)
        self.set_status(204)
        self.finish()


class TellDecided(HubSide):
    """``POST`` with ``request``: its number. Who asked gets a mail, and so does the owner of a linked account."""

    async def post(self) -> None:
        """204; 404 where there is no such decided request."""
        self.require_console()
        number = (self.get_json_body() or {}).get("request")
        row: Request | None = await self.site.run(_decided, self.site.ledger, number)
        if row is None:
            raise web.HTTPError(404, "There is no such decided request.")
        told = self.authenticator.linking.told
        told.decided(row)
        if row.decision == "accepted":
            key = (row.body["issuer"], row.body["subject"])
            link: Link | None = await self.site.run(self.site.ledger.links.find, key)
            if link is not None:
                told.made(link.account_id, link.label, link.issuer)
        self.set_status(204)
        self.finish()


def _decided(ledger: Any, number: object) -> Request | None:
    if not isinstance(number, int):
        return None
    row: Request | None = ledger.links.request(number)
    return row if row is not None and row.decided_at is not None else None
