"""What the hub asks of a server that was begun: does it run, end it, remember it (design.md §2, steps 9 and 11).

``DaasSpawner`` builds on this; the flow that begins a server is in ``spawner.py``. What an answer is, is decided by
pure functions in ``core/launch.py``; the acts on a launch are in ``record.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.spawner import Spawner

from daas_hub.core.errors import DaasError, LedgerBusy
from daas_hub.core.launch import CANCELLED, ON_REQUEST, TOO_LONG, Poll, Started, Stop, decide_poll, decide_stop
from daas_hub.core.models import LaunchState, Life
from daas_hub.db.ledger import LaunchRow

from . import one_user, ready_mail
from .record import LaunchRecord
from .runtime import DaasHub
from .settings import SpawnerSettings
from .site_tokens import SiteTokens

STOP_WITHIN_S = 25.0
"""How long a backend may take to stop a server. With the ledger's own patience before and after, ``stop``
returns within 60 s (design.md §4.4)."""
GIVE_UP_AFTER_S = 50.0
"""After this the hub gets its answer, whatever was reached; one ledger call may still run to its end."""
POST_STOP_WITHIN_S = 20.0


class BegunServer(SpawnerSettings, Spawner):
    """A server that was begun here, by an earlier boot, or not at all: all that the hub does with it afterwards."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._record: LaunchRecord | None = None
        self._started = Started.NOT_HERE
        self._failure = ""
        self._polling_began = False
        self._watcher: asyncio.Task[None] | None = None
        self._site_tokens: SiteTokens | None = None
        self._notifying: asyncio.Task[int | None] | None = None
        self._oauth_scopes: list[str] | None = None
        self.auth_state: dict[str, Any] | None = None
        self.mail_wished = False
        """Whether she wants a mail when the start that goes on is over."""

    @property
    def site(self) -> DaasHub:
        """What all spawners of this hub share."""
        return DaasHub.instance(config=self.config)

    @property
    def mail_offered(self) -> bool:
        """Whether the page of her start may offer a mail."""
        return not ready_mail.problem(self)

    async def wish_mail(self, wished: bool) -> bool:
        """She wants a mail when the start that goes on is over, or none; False where no start goes on."""
        if self._record is None or not await self.site.run(self.site.ledger.wish_mail, self._record.id, wished):
            return False
        self.mail_wished = wished
        return True

    async def start(self) -> str:
        """The flow, in ``spawner.py``; JupyterHub wants every class of spawners to have it."""
        raise NotImplementedError

    # ------------------------------------------------------------ 9 observe

    async def poll(self) -> int | None:
        """None while the hub may treat the server as running; else its exit code (design.md §4.1)."""
        try:
            return await self._poll()
        except LedgerBusy as error:
            # Unknown is never "ended": the hub goes on, or drops its own row at boot and adopts later.
            self.log.warning("Cannot tell whether %s runs: %s", self._log_name, error.log_message)
            self.will_resume = True
            return None if self._polling_began or self._started is not Started.NOT_HERE else 0

    async def _poll(self) -> int | None:
        record = self._record
        row = await record.row() if record is not None else None
        if record is None or row is None:
            self.will_resume = False
            return 0
        life, code = Life.UNKNOWN, row.exit_code
        if row.state is not LaunchState.ENDED:
            seen = await record.look(row)
            life, code = seen.life, seen.exit_code
        here = self._polling_began or self._cancelled() or row.hub_boot_id == self.site.boot_id
        answer = decide_poll(row.state, life, of_this_boot=here)
        if answer is Poll.PROBE:
            answer = Poll.RUNNING if await record.answers(row) else Poll.FORGET
        self.will_resume = answer is not Poll.ENDED
        if answer is Poll.RUNNING:
            return None
        return code if answer is Poll.ENDED and code is not None else 0

    def _cancelled(self) -> bool:
        """Whether somebody has cancelled the start that took this launch over: the hub polls before it stops, and told
        that nothing runs it would stop nothing."""
        # Only a start that came to its end or was cancelled has none (handlers/base.py:1238).
        return self._started is Started.ADOPTED and self._spawn_future is None and not self._polling_began

    async def _row(self) -> LaunchRow | None:
        return await self._record.row() if self._record is not None else None

    def start_polling(self) -> None:
        """The hub holds the server for running: it belongs to this boot now, and its end is noticed at once."""
        super().start_polling()
        self._polling_began = True
        if self._oauth_scopes is not None and self._started is Started.ADOPTED:
            # user.spawn() has just emptied them, registering the kept token (user.py:1047).
            self.orm_spawner.oauth_client.allowed_scopes = self._oauth_scopes
            self.user.db.commit()
        if self._record is not None:
            self._watcher = asyncio.create_task(self._watch(self._record))
            self._site_tokens = SiteTokens(self.site, self.authenticator, self.user, self._record, self.log)
            self._site_tokens.begin()

    def stop_polling(self) -> None:
        """Stop watching; the watcher itself may be the caller, by way of the hub's `user_stopped`."""
        super().stop_polling()
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher is not asyncio.current_task():
            watcher.cancel()
        if self._site_tokens is not None:
            self._site_tokens.end()
            self._site_tokens = None

    def access_ended(self, why: str) -> None:
        """Its owner is out: what she has for other services goes at once, also where the server goes on."""
        if self._site_tokens is not None:
            self._site_tokens.over(why)

    async def poll_and_notify(self) -> int | None:
        """One at a time: a start that comes while the hub hears of an end waits until the hub is done with it."""
        if self._notifying is None or self._notifying.done():
            self._notifying = self.site.keep(super().poll_and_notify())
        status = await asyncio.shield(self._notifying)
        if status is None and self.pending == "stop" and self._stop_future is not None:
            # Another DELETE was faster; told "running", this one's handler would stop again, which ends in a 500.
            await asyncio.wait([self._stop_future])
            return 0
        return status

    async def _watch(self, record: LaunchRecord) -> None:
        """Settle the launch the moment its server ends, then let the hub know."""
        row = await record.row()
        if row is not None and row.hub_boot_id != self.site.boot_id and row.state is not LaunchState.ENDED:
            await self._name_owner(row)
            await self.site.adopt(row.id)
        if row is not None and await record.wait_ended(row) is not None and self._callbacks:
            # Without callbacks the start is still being checked, and that check finds the server gone.
            await self.poll_and_notify()

    async def _name_owner(self, row: LaunchRow) -> None:
        """What the hub calls the owner, into the ledger: a hub that ended before it wrote a rename left the old name.

        Without this the reconciler would adopt, or stop because of a block, under a name that nobody has.
        """
        try:
            called = await self.site.user_names(row.account_id)
            if called in (None, self.user.name):
                return
            if await self.site.run(self.site.ledger.accounts.set_user_name, row.account_id, self.user.name):
                self.log.info("The owner of launch %s is called %s now", row.id, self.user.name)
        except LedgerBusy as error:
            self.log.warning("The name of the owner of launch %s is kept later: %s", row.id, error.log_message)

    def went_to(self, launch_id: str, url: str) -> bool:
        """Its place runs this server at another address now: the hub knows it there. False: it is another launch's."""
        if self._record is None or self._record.id != launch_id or self.server is None:
            return False
        where = urlsplit(url)
        self.server.proto, self.server.ip, self.server.port = where.scheme, where.hostname, where.port
        self.user.db.commit()
        return True

    # ------------------------------------------------------------ 11 stop and settle

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002  the hub never sets it
        """Stop, detach or nothing, by what is known (core/launch.py). Returns within 60 s, always."""
        try:
            async with asyncio.timeout(GIVE_UP_AFTER_S):
                await self._stop()
        except (TimeoutError, DaasError) as error:
            # The hub clears its row all the same; ours stays, counted, and the reconciler goes on.
            self.log.error("Stopping %s is not finished; it is tried again: %s", self._log_name, error)

    async def _stop(self) -> None:
        row = await self._row()
        pending = self._spawn_future is not None and not self._spawn_future.done()
        decision = decide_stop(
            row.state if row is not None else None,
            started=self._started,
            start_pending=pending,
            polling_began=self._polling_began,
        )
        self.will_resume = decision is Stop.DETACH
        if row is not None and decision is Stop.DETACH and not pending:
            await self._name_owner(row)
        if decision is Stop.STOP and self._record is not None and row is not None:
            never_ran = CANCELLED if row.started_at is None else ON_REQUEST
            reason = self._failure or (TOO_LONG if pending else never_ran)
            await self._record.stop(row, reason=reason, within_s=STOP_WITHIN_S)

    async def run_post_stop_hook(self) -> None:
        """After every end, also one that the hub only noticed: whatever has ended is settled (user.py:1195)."""
        row = await self._row()
        if self._record is not None and row is not None and row.state is not LaunchState.ENDED:
            try:
                async with asyncio.timeout(POST_STOP_WITHIN_S):
                    await self._record.look(row)
            except (TimeoutError, LedgerBusy) as error:
                # Its settling goes on by itself.
                self.log.warning("The end of %s is written down later: %s", self._log_name, error)
        hook = super().run_post_stop_hook()
        if hook is not None:
            await hook

    # ------------------------------------------------------------ the hub's own store

    def get_state(self) -> dict[str, Any]:
        """Only the launch's id: everything else is in the ledger."""
        state: dict[str, Any] = super().get_state()
        if self._record is not None:
            state["launch_id"] = self._record.id
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """At boot, for servers that the hub's database holds for running."""
        super().load_state(state)
        launch_id = state.get("launch_id")
        if isinstance(launch_id, str):
            self._record = LaunchRecord(self.site, launch_id, self.log)

    def clear_state(self) -> None:
        """Forget the launch; its row stays in the ledger. The hub's last call before it makes an OAuth client."""
        super().clear_state()
        self._record = None
        self.oauth_client_id = one_user.client_id(self)
