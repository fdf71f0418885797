"""The reconciler: makes ledger, hub and backends agree again after anything (docs/reference/reconciler.md).

A pass looks (what exists, what the ledger says, who answers), decides (``core/reconcile.py``), and acts, each action
by itself: one that fails is logged and comes again with the next pass.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from traitlets import Float, Int

from daas_hub.clients.hub import Answer, HubClient
from daas_hub.core.errors import ConfigError, DaasError, HubUnavailable
from daas_hub.core.grants import Booked
from daas_hub.core.models import ACTIVE, Found, Handle, LaunchState, Life, Observation, Target
from daas_hub.core.reconcile import Action, Do, Graces, Launch, Memory, Seen, decide
from daas_hub.db.ledger import LaunchRow
from daas_hub.db.volumes import VolumeState

from .base import STOP_WITHIN_S, Service, jittered, main, utcnow
from .sweeping import Sweeping

T = TypeVar("T")
ALL = 1_000_000
FOLLOW_UP_S = 5.0
"""After a pass that changed something, and while a hub that has just started is still busy with itself."""
A_MOMENT_S = 0.1
YOUNG_S = 60.0
LOOK_WITHIN_S = 5.0
COUNTED_AT_ONCE = 500
"""How many launches ``Ledger.count_open`` counts in one transaction."""

FORGOTTEN_AT_ONCE = 500
"""How many logs ``Ledger.forget_logs`` forgets in one transaction."""

NOT_YET = Booked((), "", final=False)


class Reconciler(Service):
    """Adopts, settles, stops again and reaps, once a minute and right after the hub's start."""

    word = "reconciler"

    every_s = Float(
        60.0,
        min=1.0,
        help="Seconds between two passes. The hub does its own work at once; this is what a crash leaves. 60 is "
        "short for a person who waits and costs next to nothing.",
    ).tag(config=True)

    lost_start_grace_s = Float(
        30.0,
        min=0.0,
        help="A start that a hub was killed in before anything was saved, and of which the backend has nothing: "
        "settled when it is older than this, in seconds. 0 settles in the first pass. 30 lets a helper that was "
        "just begun show itself.",
    ).tag(config=True)

    reap_grace_s = Float(
        30.0,
        min=0.0,
        help="A server for which the ledger has no active launch is stopped, and what a launch left is removed, after "
        "this long, in seconds. 0: in the second pass that sees it. 30 outlasts what the hub removes itself after an "
        "end, and with a pass a minute nothing is left over for more than 2 minutes.",
    ).tag(config=True)

    sweep_every_s = Float(
        120.0,
        min=1.0,
        help="Seconds between two looks at everybody who has signed in, by their directory or provider: whoever left "
        "is out after that. One question for fifty people. 120 keeps it within the 5 minutes that are promised.",
    ).tag(config=True)

    concurrency = Int(
        20,
        min=1,
        help="How many servers are looked at, adopted or stopped at once; at least 1. 20 keeps the hub free for "
        "people after a restart.",
    ).tag(config=True)

    keep_logs_days = Int(
        30,
        min=0,
        help="How long the end of a failed server's log is kept in the ledger, in days after the launch has ended. "
        "Everything else of the launch stays. 0: for ever. 30 lets its owner ask somebody after a holiday; a log may "
        "hold what her programs printed, so it is not kept longer than it helps.",
    ).tag(config=True)

    correct_books_days = Int(
        7,
        min=0,
        help="How long a place's accounting (SLURM's, by sacct) is asked for what an ended launch has used, in days, "
        "where it could not say so at its end. What was counted until then stays. 7 outlasts a broken database.",
    ).tag(config=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.environment.boot_id:
            # Every start in progress would look like one whose hub is gone.
            raise ConfigError("The environment variable DAAS_HUB_BOOT_ID is not set: the hub sets it for its services.")
        self.hub = HubClient(self.environment.api_url, self.environment.api_token, tls=self.environment.tls)
        self._graces = Graces(lost_start_s=self.lost_start_grace_s, reap_s=self.reap_grace_s)
        self._memory = Memory()
        self._sweeping = Sweeping(self.hub, self.sweep_every_s, lambda: self.holds_lease, self.log)
        self._at_once = asyncio.Semaphore(self.concurrency)
        self._began = time.monotonic()
        self._told: set[str] = set()
        self._claimed: set[str] = set()
        self._accused: set[str] = set()
        """Subjects that are in the audit."""
        self._silent: set[str] = set()
        """Backends that could not be asked in the last pass."""
        authenticator = self.environment.config.get("Authenticator", {})
        self.blocked_users = frozenset(authenticator.get("blocked_users", ()))

    async def finish(self) -> None:
        """Drop the connections to the hub."""
        await self._sweeping.end()
        self.hub.close()

    # ------------------------------------------------------------ a pass

    async def turn(self) -> float:
        """Look, decide, act; seconds until the next pass."""
        self._sweeping.begin()
        seen, rows = await self._look()
        actions, self._memory = decide(seen, self._memory, self._graces)
        self._told &= rows.keys()
        changed = await asyncio.gather(*(self._guarded(action, rows) for action in actions))
        await self._accuse(seen.found)
        await self._keep_books(rows)
        await self._keep_disks(seen.found)
        if any(changed):
            return FOLLOW_UP_S
        due_s = self._memory.next_due_s(utcnow(), self.reap_grace_s)
        return min(jittered(self.every_s), math.inf if due_s is None else due_s + A_MOMENT_S)

    async def _look(self) -> tuple[Seen, Mapping[str, LaunchRow]]:
        found, left = await self._find()
        # After what exists: whatever was found has its row by now, if it ever had one.
        rows = {row.id: row for row in await self.run_in_ledger(self.ledger.launches, states=ACTIVE, limit=ALL)}
        alive = {server.launch_id for servers in found.values() for server in servers}
        life = {id: Observation(Life.RUNNING) for id in rows.keys() & alive}
        others = [row for row in rows.values() if row.handle is not None and row.id not in life]
        life |= zip([row.id for row in others], await self._bounded(map(self._inspect, others)), strict=True)
        earlier = [row for row in rows.values() if not self._of_this_boot(row) and row.id in life]
        asked = [row for row in earlier if row.target is Target.RUNNING and life[row.id].life is Life.RUNNING]
        answers = await self._bounded(map(self._answers, asked))
        answering = {row.id for row, answer in zip(asked, answers, strict=True) if answer}
        names = await self._names() if self.blocked_users else {}
        launches = [self._launch(row, names.get(row.account_id, "")) for row in rows.values()]
        return Seen(launches, found, life, answering, self.blocked_users, left, now=utcnow()), rows

    async def _find(self) -> tuple[dict[str, Sequence[Found]], dict[str, Sequence[Handle]]]:
        """What exists at each backend that can be asked: servers, and whatever launches have there."""
        found, left = {}, {}
        for name in self.environment.backends:
            try:
                await self._ours(name)
                async with asyncio.timeout(6 * LOOK_WITHIN_S):
                    found[name] = await self.backend(name).find()
                    left[name] = await self.backend(name).leftovers()
            except (DaasError, TimeoutError) as error:
                # Once, however long it lasts; what it has running goes on meanwhile.
                told = self.log.debug if name in self._silent else self.log.warning
                told("Backend %s cannot be asked: %s", name, getattr(error, "log_message", "") or repr(error))
                self._silent.add(name)
            else:
                if name in self._silent:
                    self._silent.discard(name)
                    self.log.info("Backend %s can be asked again", name)
        return found, left

    async def _ours(self, name: str) -> None:
        """Raise ConfigError where the servers at a backend are another ledger's: they would all be reaped."""
        if name not in self._claimed:
            ledger_id = await self.run_in_ledger(self.ledger.claim, self.environment.hub_id)
            await asyncio.to_thread(self.backend(name).claim, ledger_id)
            self._claimed.add(name)

    def _of_this_boot(self, row: LaunchRow) -> bool:
        return row.hub_boot_id == self.environment.boot_id

    async def _names(self) -> dict[str, str]:
        """Account → the user who has it now, which may be called otherwise than when a server was started."""
        return {account.id: account.user_name for account in await self.run_in_ledger(self.ledger.accounts.list)}

    def _launch(self, row: LaunchRow, user_name: str) -> Launch:
        return Launch(
            id=row.id,
            user_name=user_name,
            backend=row.backend,
            state=row.state,
            target=row.target,
            of_this_boot=self._of_this_boot(row),
            created_at=row.created_at,
            stopping_since=row.stopping_since,
            handle=row.handle,
        )

    async def _inspect(self, row: LaunchRow) -> Observation:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                return await self.backend(row.backend).inspect(row.handle or {})
        except (DaasError, TimeoutError) as error:
            return Observation(Life.UNKNOWN, reason=str(error))

    async def _answers(self, row: LaunchRow) -> bool:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                await self.backend(row.backend).resume(row.handle or {})
        except (DaasError, TimeoutError):
            return False
        return True

    async def _bounded(self, calls: Iterable[Awaitable[T]]) -> list[T]:
        async def one(call: Awaitable[T]) -> T:
            async with self._at_once:
                return await call

        return await asyncio.gather(*map(one, calls))

    async def _accuse(self, backends: Collection[str]) -> None:
        """Write down once who says of something of hers that it is a launch of this hub's; it is left alone."""
        for name in backends:
            for one in await self.backend(name).pretenders():
                subject = f"job:{name} {one.key}"
                if self.holds_lease and subject not in self._accused:
                    await self.run_in_ledger(
                        self.ledger.audit.append_once, utcnow(), self.word, "refuse_job", subject, one.facts,
                        "it says that it is a launch of this hub, and is not",
                    )  # fmt: skip
                    self._accused.add(subject)

    async def _keep_books(self, rows: Mapping[str, LaunchRow]) -> None:
        """Say that this hub still cares for its launches, and bring their hourly sums up to now."""
        own = [row.id for row in rows.values() if self._of_this_boot(row)]
        if own:
            await self.run_in_ledger(self.ledger.heartbeat, own, now=utcnow())
        while await self.run_in_ledger(self.ledger.count_open, now=utcnow()) >= COUNTED_AT_ONCE:
            pass
        await self._correct_books()
        if self.keep_logs_days:
            over = utcnow() - timedelta(days=self.keep_logs_days)
            while await self.run_in_ledger(self.ledger.forget_logs, ended_before=over) >= FORGOTTEN_AT_ONCE:
                pass

    async def _correct_books(self) -> None:
        """Launches that ended before their place's accounting had them: asked again, for some days."""
        silent: set[str] = set()
        for row, since in await self.run_in_ledger(self.ledger.books_due):
            booked = NOT_YET if row.backend in silent else await self._booked(row, silent)
            if booked is None or booked.final:
                changed = await self.run_in_ledger(self.ledger.book, row.id, booked, now=utcnow())
                self.log.info(
                    "What launch %s used is as %s accounts for it: %d rows more", row.id, row.backend, changed
                )
            elif utcnow() - since > timedelta(days=self.correct_books_days):
                await self.run_in_ledger(self.ledger.forget_books, row.id)
                self.log.info("What launch %s used stays as counted: %s never accounted for it", row.id, row.backend)

    async def _booked(self, row: LaunchRow, silent: set[str]) -> Booked | None:
        """What its place's accounting has; a place that does not answer is asked no more in this pass."""
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                return await self.backend(row.backend).booked(row.handle or {})
        except (DaasError, TimeoutError) as error:
            self.log.debug("What launches used on %s is asked for later: %r", row.backend, error)
            silent.add(row.backend)
            return NOT_YET

    async def _keep_disks(self, backends: Collection[str]) -> None:
        """Disks of claims that a crash or an outage kept from being retained and written down."""
        for volume in await self.run_in_ledger(self.ledger.volumes.list):
            made = volume.made or {}
            wanted = volume.backend in backends and volume.state is not VolumeState.EXPIRED
            if wanted and "claim" in made and "disk" not in made:
                for volume_id, what in (await self.backend(volume.backend).keep([volume.id])).items():
                    await self.run_in_ledger(self.ledger.volumes.record_made, volume_id, what)
                    self.log.info("Volume %s is retained, which was not done at its start", volume_id)

    # ------------------------------------------------------------ actions

    async def _guarded(self, action: Action, rows: Mapping[str, LaunchRow]) -> bool:
        """Do it; True where it changed something. Nothing that fails keeps the others from being done."""
        try:
            async with self._at_once:
                if not self.holds_lease:
                    return False
                return await self._do(action, rows.get(action.launch_id))
        except DaasError as error:
            self.log.error("%s of launch %s failed: %s", action.do, action.launch_id, error.log_message)
        except Exception:
            self.log.exception("%s of launch %s failed", action.do, action.launch_id)
        return False

    async def _do(self, action: Action, row: LaunchRow | None) -> bool:
        if row is None:
            return await self._reap(action)
        match action.do:
            case Do.SAVE_HANDLE:
                await self.run_in_ledger(self.ledger.save_handle, row.id, action.handle or {}, now=utcnow())
                self.log.info("Launch %s of %s was %s", row.id, row.user_name, action.why)
                return True
            case Do.SETTLE:
                return await self.settle_launch(row, action.observation or Observation(Life.ENDED), action.why)
            case Do.ADOPT:
                return await self._adopt(row)
            case Do.BLOCK | Do.STOP:
                return await self._stop(row, action.why)
            case Do.REAP:
                return await self._reap(action)

    async def _set_target(self, row: LaunchRow, reason: str) -> LaunchRow:
        return await self.run_in_ledger(
            self.ledger.set_target, row.id, Target.STOPPED, now=utcnow(), reason=reason, by=self.word
        )

    async def _adopt(self, row: LaunchRow) -> bool:
        """The hub starts it, and the spawner finds what runs already. Refused while the hub is busy with it."""
        account = await self.run_in_ledger(self.ledger.accounts.by_id, row.account_id)
        if account is None or not account.user_name:
            # Nobody has this account now, and whoever has its name is somebody else: they did not ask for a server.
            return False
        try:
            answer, said = await self.hub.start_server(account.user_name, row.server_name)
        except HubUnavailable as error:
            self.log.warning("Launch %s of %s is not adopted yet: %s", row.id, row.user_name, error.log_message)
            return time.monotonic() - self._began < YOUNG_S
        if answer in (Answer.DONE, Answer.PENDING):
            self.log.info("Launch %s of %s: the hub adopts it", row.id, row.user_name)
            return True
        if row.id not in self._told:
            self._told.add(row.id)
            self.log.warning("Launch %s of %s cannot be adopted now: %s %s", row.id, row.user_name, answer, said)
        return time.monotonic() - self._began < YOUNG_S

    async def _stop(self, row: LaunchRow, why: str) -> bool:
        """Stop it here, as the hub would; what is not certain stays STOPPING, counted, and comes again."""
        fresh = await self.run_in_ledger(self.ledger.get, row.id)
        if fresh is None or fresh.state is LaunchState.ENDED or fresh.handle is None:
            return False
        return await self.stop_launch(await self._set_target(fresh, why))

    async def _reap(self, action: Action) -> bool:
        """Stop a server that the ledger does not have, once more making sure of both."""
        handle = action.handle or {}
        row = await self.run_in_ledger(self.ledger.get, action.launch_id) if action.launch_id else None
        if row is not None and row.state is not LaunchState.ENDED:
            return False
        backend = self.backend(str(handle.get("backend", "")))
        seen = await backend.stop(handle, within_s=STOP_WITHIN_S)
        self.log.warning("Reaped a server of launch %s: %s; now %s", action.launch_id, action.why, seen.life)
        if seen.life is Life.ENDED:
            await backend.cleanup(handle)
        return seen.life is Life.ENDED


if __name__ == "__main__":
    main(Reconciler)
