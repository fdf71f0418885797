"""Where a server that chose its port itself tells it: ``POST /hub/api/daas/report``, one integer, with its own token.

Nobody is believed about whose server it is: the token must be good at the hub, and be the one that the ledger keeps
for an active launch. What is taken, and how often, is the backend's to say (``Backend.reported``).
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any
from weakref import WeakValueDictionary

from tornado import web

from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.models import ACTIVE, Handle, LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.record import LaunchRecord
from daas_hub.spawners.runtime import utcnow

from .small_body import RETRY_AFTER_S, SmallBody

REPORT = r"/api/daas/report"
PORTS = range(1024, 65536)
"""Ports that a process without rights can listen on."""
TRIES = 5
"""How often a report is taken anew because the handle changed meanwhile: each change is a step of a start."""
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""One report of a launch at a time, so that the backend sees what the one before has saved."""


class PortReport(SmallBody):
    """``POST`` ``{"port": n}`` by a server itself."""

    async def get_current_user(self) -> Any:
        """Whose token it is. Her directory is not asked: her server reports, and may do so after days in a queue."""
        if not hasattr(self, "_jupyterhub_user"):
            self._jupyterhub_user = None
            self._jupyterhub_user = self.get_current_user_token()
        return self._jupyterhub_user

    async def post(self) -> None:
        """200 once it is in the ledger; 403, 409, 400 and 413 for good; 503 where it should be sent again."""
        try:
            row = await self._launch()
            port = self._port()
            async with _turns.setdefault(row.id, asyncio.Lock()):
                await self._take(row.id, port)
        except DaasError as error:
            self.log.warning("A server's port is not taken: %s", error.log_message)
            self.refuse(error)
            return
        self.finish({"port": port})

    async def _launch(self) -> LaunchRow:
        """The active launch whose token this is; raises 403 for every other token."""
        token, orm_token = self.get_auth_token(), self.get_token()
        if token is not None and orm_token is not None and orm_token.user is not None:
            ledger = self.site.ledger
            account = await self.site.run(ledger.accounts.by_user_name, orm_token.user.name)
            if account is not None:
                for row in await self.site.run(ledger.launches, states=ACTIVE, account_id=account.id):
                    kept = await LaunchRecord(self.site, row.id, self.log).token_of(row)
                    if kept is not None and hmac.compare_digest(kept.encode(), token.encode()):
                        return row
        raise web.HTTPError(403, "Only a server that was not ended may report, with its own token.")

    def _port(self) -> int:
        """The one integer; raises 400 or 413."""
        said = self.told()
        port = said.get("port") if isinstance(said, dict) and len(said) == 1 else None
        if type(port) is not int or port not in PORTS:
            raise web.HTTPError(400, f'Allowed is {{"port": n}} with n from {PORTS[0]} to {PORTS[-1]}, and no more.')
        return port

    async def _take(self, launch_id: str, port: int) -> None:
        """Let the backend judge it, and save what it says; raises 409 where nothing is taken."""
        ledger, beaten = self.site.ledger, False
        for _ in range(TRIES):
            row = await self.site.run(ledger.get, launch_id)
            if row is None or row.target is Target.STOPPED or row.state not in ACTIVE - {LaunchState.STOPPING}:
                raise web.HTTPError(409, "This server is to stop, or has ended; nothing is taken of it.")
            if row.handle is None:
                raise BackendUnavailable(
                    f"Where this server runs is not written down yet. Try again in {RETRY_AFTER_S} s.",
                    reason="not_recorded",
                )
            handle = await self.site.backend(row.backend).reported(row.handle, port)
            if handle is None:
                if beaten:
                    # The start itself has written down what was taken a moment ago.
                    return
                raise web.HTTPError(409, "No port of this server is taken: it is known already, or the hub chose it.")
            if await self.site.run(ledger.replace_handle, launch_id, row.handle, handle, now=utcnow()):
                self.log.info("The server of launch %s listens on port %d", launch_id, port)
                if row.state is LaunchState.RUNNING:
                    self.site.keep(self._follow(row, handle))
                return
            beaten = True
        raise BackendUnavailable(f"This server is changing. Try again in {RETRY_AFTER_S} s.", reason="changing")

    async def _follow(self, row: LaunchRow, handle: Handle) -> None:
        """A server that ran already runs again, maybe elsewhere: hub and proxy go there once it answers."""
        spawner = self.current_user.spawners.get(row.server_name)
        if spawner is None or not spawner.ready:
            # The hub does not know it just now: whoever adopts it reads the handle.
            return
        try:
            url = await self.site.backend(row.backend).resume(handle)
            if spawner.ready and spawner.went_to(row.id, url):
                await self.proxy.add_user(self.current_user, row.server_name)
                self.log.info("The server of launch %s runs at %s now", row.id, url)
        except DaasError as error:
            self.log.warning("The server of launch %s is not reached anew: %s", row.id, error.log_message)
