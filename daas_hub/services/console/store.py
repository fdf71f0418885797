"""The ledger for the console's handlers: every call runs in the bounded thread pool, none blocks the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import DaasError, HubUnavailable, InvalidOptions, LedgerBusy
from daas_hub.core.models import ACTIVE, Who
from daas_hub.db.ledger import LaunchRow, Ledger
from daas_hub.db.links import Request
from daas_hub.db.pool import LedgerPool

from . import account_queries as a
from . import identity_queries as i
from . import launch_queries as one
from . import models as m
from . import queries as q
from . import volume_queries as v
from .access import LOGS_READ, QUOTA_READ, QUOTA_WRITE, Person
from .banners import Banners
from .group_store import GroupStore

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("daas_hub.console")
CALL_WITHIN_S = 15.0
"""Longer than the ledger's own busy time-out, so that its answer ("try again") is the one that is given."""
HEALTH_WITHIN_S = 2.0
DEFAULT_PAGE = 50
MAX_PAGE = 500


def page_size(text: str) -> int:
    """How many rows a page has; raises InvalidOptions."""
    if not text:
        return DEFAULT_PAGE
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidOptions(f"limit: {text[:40]!r} is not allowed; give 1 to {MAX_PAGE}.", field="limit")
    return int(text)


class Store:
    """Opens the ledger at ``url`` when it is first needed; the hub has made it by then."""

    def __init__(self, url: str, hub: HubClient) -> None:
        self._url = url
        self._hub = hub
        self.banners = Banners(hub)
        self._ledger: Ledger | None = None
        self._pool = LedgerPool()
        self.groups = GroupStore(self, hub)

    def _open(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self._url, create=False)
        return self._ledger

    async def call(self, fn: Callable[Concatenate[Ledger, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(ledger, …)`` in a thread; raises LedgerBusy where it takes too long."""
        try:
            call = self._pool.run(lambda: fn(self._open(), *args, **kwargs))
            return await asyncio.wait_for(call, CALL_WITHIN_S)
        except TimeoutError as error:
            raise LedgerBusy("The ledger does not answer. Try again.", retry_after_s=5) from error

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._hub.close()
        self._pool.close()
        if self._ledger is not None:
            self._ledger.close()

    async def healthy(self) -> bool:
        """True where the ledger answers a read within 2 s."""
        try:
            await asyncio.wait_for(self.call(lambda ledger: ledger.launches(limit=1)), HEALTH_WITHIN_S)
        except (DaasError, TimeoutError):
            return False
        return True

    # ------------------------------------------------------------ me

    async def usage(self, person: Person) -> m.MyUsage:
        """See queries.usage."""
        return await self.call(q.usage, person, _now())

    async def notices(self, person: Person) -> list[m.NoticeModel]:
        """See queries.notices."""
        return await self.call(q.notices, person)

    async def dismiss(self, person: Person, notice: str) -> None:
        """See queries.dismiss."""
        await self.call(q.dismiss, person, notice, _now())

    # ------------------------------------------------------------ launches

    async def active_rows(self) -> list[LaunchRow]:
        """All launches that hold a reservation, for the metrics."""
        return await self.call(lambda ledger: ledger.launches(states=list(ACTIVE), limit=1_000_000))

    async def launches(self, *, user: str, state: str, before: str, limit: int) -> m.LaunchList:
        """See queries.launches."""
        return await self.call(q.launches, user, state, before, limit)

    async def my_volumes(self, person: Person) -> m.MyVolumes:
        """See volume_queries.mine."""
        return await self.call(v.mine, person)

    async def volumes(self, *, user: str, state: str, growth: str, before: str, limit: int) -> m.VolumeList:
        """See volume_queries.volumes."""
        return await self.call(v.volumes, user, state, growth, before, limit)

    async def launch(self, launch_id: str, person: Person) -> m.LaunchDetail:
        """See launch_queries.detail."""
        return await self.call(one.detail, launch_id, person, QUOTA_READ)

    async def log(self, launch_id: str, person: Person) -> m.LaunchLog:
        """The end of a log: of a server that has not ended from the hub, which asks its backend, else what was kept."""
        place = await self.call(one.log_place, launch_id, person, LOGS_READ)
        if place.ask_the_hub:
            try:
                shown = await self._hub.log_of(launch_id)
            except HubUnavailable:
                shown = None
            if shown is not None:
                return m.LaunchLog(launch=launch_id, text=shown, source="server")
        return m.LaunchLog(launch=launch_id, text=place.kept, source="none" if place.kept is None else "kept")

    async def recipe(self, launch_id: str, person: Person) -> m.Recipe:
        """See launch_queries.recipe."""
        return await self.call(one.recipe, launch_id, person, QUOTA_READ)

    async def declare_lost(self, launch_id: str, typed: m.Confirmation, person: Person) -> m.LaunchDetail:
        """See queries.declare_lost."""
        await self.call(q.declare_lost, launch_id, typed, person, _now())
        return await self.call(one.detail, launch_id, person, QUOTA_WRITE)

    # ------------------------------------------------------------ limits and audit

    async def limits(self) -> list[m.LimitModel]:
        """See queries.limits."""
        return await self.call(q.limits)

    async def limit(self, limit_id: str) -> m.LimitModel:
        """See queries.limit."""
        return await self.call(q.limit, limit_id)

    async def set_limit(self, wanted: m.LimitIn, person: Person) -> m.LimitModel:
        """See queries.set_limit. Who has never started a server is looked up by the hub, which records her account.

        A group or project that neither ledger nor hub has seen needs ``confirm_name``."""
        q.check_limit(wanted)
        key = wanted.name
        if wanted.who is Who.USER:
            known = await self.call(q.account_id, wanted.name)
            key = known or await self._hub.account_id(wanted.name)
        elif wanted.who is not Who.DEFAULT_EACH and not wanted.confirm_name:
            q.check_name(wanted, await self._name_seen(wanted))
        return await self.call(q.set_limit, wanted, key, person, _now())

    async def _name_seen(self, wanted: m.LimitIn) -> bool:
        """By the ledger, where something of it ran or has a limit; else by the hub, which knows its groups."""
        if await self.call(q.name_seen, wanted):
            return True
        return wanted.who is not Who.PROJECT_TOTAL and await self._hub.knows_group(wanted.name)

    async def change_limit(self, limit_id: str, to: m.AmountIn, person: Person) -> m.LimitModel:
        """See queries.change_limit."""
        return await self.call(q.change_limit, limit_id, to, person, _now())

    async def delete_limit(self, limit_id: str, note: str, person: Person) -> None:
        """See queries.delete_limit."""
        await self.call(q.delete_limit, limit_id, note, person, _now())

    async def audit(self, *, before: str, limit: int) -> m.AuditList:
        """See queries.audit."""
        return await self.call(q.audit, before, limit)

    # ------------------------------------------------------------ accounts

    async def account(self, user: str) -> m.AccountModel:
        """See account_queries.account."""
        return await self.call(a.account, user)

    async def waiting(self) -> list[m.AccountModel]:
        """See account_queries.waiting."""
        return await self.call(a.waiting)

    async def confirm_uid(self, user: str, typed: m.ConfirmUid, person: Person) -> m.AccountModel:
        """See account_queries.confirm_uid."""
        return await self.call(a.confirm_uid, user, typed, person, _now())

    async def identities(self, user: str) -> Sequence[i.Way]:
        """See identity_queries.of_user."""
        return await self.call(i.of_user, user)

    async def unlink(self, user: str, link: str, why: str, person: Person) -> None:
        """See identity_queries.unlink."""
        gone = await self.call(i.unlink, user, link, why, person, _now())
        more = {"account_id": gone.account_id, "user": user, "label": gone.label, "issuer": gone.issuer}
        await self._tell("/daas/links/unlinked", **more)

    async def invite(self, user: str, why: str, person: Person) -> str:
        """See identity_queries.invite. The hub looks the account up: it may never have been used."""
        return await self.call(i.invite, await self._hub.account_id(user), why, person, _now())

    async def access_requests(self) -> Sequence[Request]:
        """See identity_queries.requests."""
        return await self.call(i.requests)

    async def accept_request(self, request: str, name: str, why: str, person: Person) -> None:
        """See identity_queries.accept. The hub looks the account up: it may never have been used."""
        row = await self.call(i.accept, request, await self._hub.account_id(name), why, person, _now())
        await self._tell("/daas/links/decided", request=row.id)

    async def refuse_request(self, request: str, why: str, person: Person) -> None:
        """See identity_queries.refuse."""
        row = await self.call(i.refuse, request, why, person, _now())
        await self._tell("/daas/links/decided", request=row.id)

    async def _tell(self, path: str, **what: object) -> None:
        """It is done already: a hub that is away undoes nothing, and finds ended links itself at the next refresh."""
        try:
            await self._hub.tell(path, **what)
        except HubUnavailable as error:
            log.warning("Nobody is mailed, and no sign-in ended at once: %s", error.log_message)

    async def posix_row(self, name: str) -> m.PosixRow:
        """See account_queries.posix_row."""
        return await self.call(a.posix_row, name)

    async def set_posix_row(self, name: str, wanted: m.PosixRowIn, person: Person) -> m.PosixRow:
        """See account_queries.set_posix_row."""
        return await self.call(a.set_posix_row, name, wanted, person, _now())

    async def delete_posix_row(self, name: str, note: str, person: Person) -> None:
        """See account_queries.delete_posix_row."""
        await self.call(a.delete_posix_row, name, note, person, _now())


def _now() -> datetime:
    return datetime.now(UTC)
