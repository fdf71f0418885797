"""The end of what somebody has here, in hub, proxy and ledger: one way for the sweep, providers and our services.

The ledger is told before anything is stopped, so that what a crash leaves is the reconciler's, with the right reason.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tornado import web

from daas_hub.auth.common import identity_in
from daas_hub.auth.ending import close_ways, end_sessions
from daas_hub.core.errors import DaasError
from daas_hub.core.models import ACTIVE, Target
from daas_hub.db.ledger import Ledger
from daas_hub.spawners.runtime import DaasHub, utcnow

ALL = 1_000


class Ending:
    """See ``auth.ending.EndAccess``. Safe to be called again: what is left is ended then."""

    def __init__(self, site: DaasHub) -> None:
        self._site = site

    async def __call__(
        self, handler: Any, user: Any, *, why: str, by: str, servers: bool = True, again: bool = False
    ) -> None:
        """Sessions and tokens first: from then on nobody gets in. A ledger that is busy keeps no server running.

        ``again``: for what was left the time before; the audit trail has it already.
        """
        end_sessions(handler, user, keep_servers=not servers)
        for spawner in user.spawners.values():
            spawner.access_ended(why)
        if servers:
            await close_ways(handler, user)
        try:
            await self._write(user, why, by, servers=servers, again=again)
        except DaasError as error:
            handler.log.error("That %s has no access any more is not written down: %s", user.name, error.log_message)
        if servers:
            self.stop_servers(handler, user)

    async def _write(self, user: Any, why: str, by: str, *, servers: bool, again: bool) -> None:
        identity = identity_in(await user.get_auth_state())
        key = (identity.issuer, identity.subject) if identity is not None else None
        stopped = await self._site.run(_stop_rows, self._site.ledger, user.name, key, why, by) if servers else []
        if stopped or not again:
            audit = self._site.ledger.audit
            subject, what = f"user:{user.name}", {"servers": stopped}
            await self._site.run(audit.append, utcnow(), by, "end_access", subject, None, what, why)

    def stop_servers(self, handler: Any, user: Any, *names: str) -> None:
        """Begin to stop all of them, or those of these names; nobody waits for it. One that starts comes later."""
        for name, spawner in user.spawners.items():
            if (not names or name in names) and spawner.active and not spawner.pending:
                self._site.keep(_stop(handler, user, name))


async def _stop(handler: Any, user: Any, name: str) -> None:
    try:
        await handler.stop_single_user(user, name)
    except (web.HTTPError, RuntimeError, KeyError, asyncio.CancelledError) as error:
        # Its target is STOPPED in the ledger: the reconciler goes on.
        handler.log.warning("Server %r of %s is stopped by the reconciler: %r", name, user.name, error)


def _stop_rows(ledger: Ledger, user_name: str, key: tuple[str, str] | None, why: str, by: str) -> list[str]:
    """Say in the ledger that all her launches are to stop, and tell her; the names of those servers."""
    now = utcnow()
    account = ledger.accounts.by_identity(*key) if key is not None else ledger.accounts.by_user_name(user_name)
    rows = ledger.launches(states=ACTIVE, account_id=account.id, limit=ALL) if account is not None else []
    stopped = [row for row in rows if row.target is Target.RUNNING]
    for row in stopped:
        ledger.set_target(row.id, Target.STOPPED, now=now, reason=why, by=by)
        which = f"Your server {row.server_name}" if row.server_name else "Your server"
        ledger.notices.add(row.account_id, row.server_name, f"{which} was stopped: {why}. Files are kept.", now=now)
    return [row.server_name for row in stopped]
