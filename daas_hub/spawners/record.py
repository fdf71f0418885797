"""One launch as the hub's process sees it: its row in the ledger and its server at the backend, kept together.

Everything here is idempotent, and nothing here raises for "cannot be told": unknown is a value. The decisions
are in ``core/launch.py``; who calls is ``spawner.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from logging import Logger
from typing import ParamSpec, TypeVar

from jupyterhub.crypto import EncryptionUnavailable, InvalidToken, decrypt

from daas_hub.core.errors import BackendUnavailable, DaasError, LedgerBusy
from daas_hub.core.grants import Grant
from daas_hub.core.launch import STALE_AFTER_S
from daas_hub.core.models import Event, Handle, LaunchState, Life, Observation, Target
from daas_hub.db.ledger import LaunchRow

from .runtime import DaasHub, utcnow

LOOK_WITHIN_S = 2.0
PROBE_WITHIN_S = 5.0
UNDO_WITHIN_S = 20.0
LEDGER_WITHIN_S = 20.0
NOTE_WITHIN_S = 6.0
"""How long a stop waits to be written down before it is carried out all the same: two tries at a busy ledger."""
SETTLE_WITHIN_S = 40.0
LOG_WITHIN_S = 5.0
TOGETHER_S = 0.25
"""Steps of a start that come within this are written in one transaction; each costs a thread, a lock and a disk."""
SOFTWARE_WITHIN_S = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class LaunchRecord:
    """The launch with this id. Cheap to make: what it knows is in the ledger."""

    def __init__(self, hub: DaasHub, launch_id: str, log: Logger) -> None:
        self.hub = hub
        self.id = launch_id
        self.log = log
        self.reserved = False
        """Whether the row is known to exist; its id is made before it."""
        self._asked = ""
        """Why a stop was asked for that could not be written down at once."""
        self._unwritten: list[Event] = []
        self._writing: asyncio.Task[None] | None = None
        self._at_once = asyncio.Event()
        self._granting = asyncio.Lock()

    def note(self, step: Event) -> None:
        """Keep a step of its start; no start waits for that, and those that come meanwhile are written together."""
        self._unwritten.append(step)
        if self._writing is None or self._writing.done():
            self._writing = self.hub.keep(self._write_steps())

    def write_noted(self) -> None:
        """No further step is expected soon: what was noted is written now. Waits for nothing."""
        self._at_once.set()

    async def noted(self) -> None:
        """Wait until every step so far is in the ledger, or is given up."""
        self.write_noted()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write_steps(self) -> None:
        while self._unwritten:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), TOGETHER_S)
            steps, self._unwritten = self._unwritten, []
            try:
                await self.hub.run(self.hub.ledger.add_events, self.id, steps)
            except LedgerBusy as error:
                # Steps that are not kept are no reason to give up a start.
                self.log.warning("%d steps of launch %s are not kept: %s", len(steps), self.id, error.log_message)

    async def row(self) -> LaunchRow | None:
        """The ledger's row, or None where the ledger does not know this id."""
        return await self.hub.rows(self.id)

    async def token_of(self, row: LaunchRow) -> str | None:
        """The API token that the server holds; None where the crypt key is not the one it was kept with."""
        if row.api_token_encrypted is None:
            return None
        try:
            token: str = (await decrypt(row.api_token_encrypted))["token"]
        except (ValueError, KeyError, InvalidToken, EncryptionUnavailable) as error:
            self.log.error(
                "The token of launch %s cannot be read (%s): its owner must start the server anew to use it. Was "
                "JUPYTERHUB_CRYPT_KEY changed without keeping the old key?",
                row.id,
                type(error).__name__,
            )
            return None
        return token

    async def look(self, row: LaunchRow) -> Observation:
        """The freshest observation: the stored one while it is young, else a look bounded to 2 s, saved."""
        if row.handle is None:
            return Observation(Life.UNKNOWN, reason="nothing was submitted yet")
        now = utcnow()
        young = row.observed_at is not None and now - row.observed_at < timedelta(seconds=STALE_AFTER_S)
        if young and row.observed is not None and row.observed is not Life.ENDED:
            return Observation(row.observed)
        try:
            seen = await asyncio.wait_for(self.hub.backend(row.backend).inspect(row.handle), LOOK_WITHIN_S)
        except TimeoutError:
            seen = Observation(Life.UNKNOWN, reason=f"{row.backend} did not answer within {LOOK_WITHIN_S:g} s")
        if seen.life is Life.ENDED:
            await self.settle(row, seen, evidence=f"{row.backend} reports that it has ended")
        else:
            await self.hub.looked((self.id, seen, now))
        return seen

    async def answers(self, row: LaunchRow) -> bool:
        """Whether the server itself answers over HTTP within 5 s of its turn: at a hub's start all are asked."""
        if row.handle is None:
            return False
        async with self.hub.probing:
            try:
                await asyncio.wait_for(self.hub.backend(row.backend).resume(row.handle), PROBE_WITHIN_S)
            except (TimeoutError, DaasError):
                return False
        return True

    async def wait_ended(self, row: LaunchRow) -> Observation | None:
        """Return once the server has ended and the launch is settled; None where there is nothing to wait for."""
        if row.state is LaunchState.ENDED or row.handle is None:
            return None
        seen = await self.hub.backend(row.backend).wait_ended(row.handle, doubt=self._note_seen)
        # A full disk may take hours: whoever watches goes on watching, and tells the hub when it is written.
        await self.settle(row, seen, evidence=f"{row.backend} saw it end", within_s=math.inf)
        return seen

    async def _note_seen(self, seen: Observation) -> None:
        """Write down that it cannot be told whether the server runs, or that it can again: her pages show it. And what
        its place has given it; nobody waits for that, and it is written as soon as the ledger can be."""
        if seen.grant is not None:
            self.hub.keep(self._note_grant(seen.grant, utcnow()))
        try:
            await self.hub.looked((self.id, seen, utcnow()))
        except LedgerBusy as error:
            # The next poll writes it.
            self.log.warning("What is known of launch %s is not written down: %s", self.id, error.log_message)

    async def _note_grant(self, grant: Grant, at: datetime) -> None:
        """One after the other: the last one counts."""
        async with self._granting:
            row = await self.hub.run_patiently(math.inf, self.hub.ledger.get, self.id)
            if row is None or row.state is LaunchState.ENDED:
                return
            passed = await self.hub.run_patiently(
                math.inf, self.hub.ledger.grant, self.id, grant, source=row.backend, now=at
            )
        for one in passed:
            self.log.warning(
                "Launch %s of %s was given more than it asked for, and passes a limit: %s of %s",
                self.id, row.user_name, one.resource, one.who,
            )  # fmt: skip

    async def settle(
        self, row: LaunchRow, seen: Observation, *, evidence: str, within_s: float = SETTLE_WITHIN_S
    ) -> None:
        """End the launch on evidence: leftovers removed, then reservation freed and usage closed.

        In this order, so that whoever reads ENDED finds nothing left, and the next start finds the settings that
        this one brought home. Once begun it goes on until it is written, also when the caller is cancelled (the hub
        cancels its watcher as soon as it hears of the end itself) or after ``within_s``, when LedgerBusy is raised.
        """
        task = self.hub.settling(self.id, lambda: self._settle(row, seen, evidence))
        await asyncio.wait({task}, timeout=None if math.isinf(within_s) else within_s)
        if not task.done():
            raise LedgerBusy("The end of the previous server is not written down yet. Try again.", retry_after_s=5)
        await task

    async def _settle(self, row: LaunchRow, seen: Observation, evidence: str) -> None:
        ledger = self.hub.ledger
        now_row = await self.hub.run_patiently(math.inf, ledger.get, self.id)
        if now_row is None or now_row.state is LaunchState.ENDED:
            return
        if row.handle is not None and now_row.target is not Target.STOPPED:
            await self.keep_what_failed(now_row)
        try:
            backend = self.hub.backend(row.backend)
            await (backend.cleanup_lost(self.id) if row.handle is None else backend.cleanup(row.handle))
        except DaasError as error:
            self.log.warning("Leftovers of launch %s stay for later: %s", self.id, error.log_message)
        target_reason = now_row.target_reason if now_row.target is Target.STOPPED else ""
        reason = target_reason or self._asked or seen.reason
        ended = await self.hub.run_patiently(
            math.inf,
            ledger.settle,
            self.id,
            code=seen.exit_code,
            reason=reason,
            evidence=evidence,
            now=utcnow(),
            booked=seen.booked,
            time_over=seen.time_over,
        )
        self.hub.turns.changed(row.backend)
        if ended:
            said = reason or "no reason"
            self.log.info("Launch %s of %s ended: %s (%s)", self.id, row.user_name, said, evidence)

    async def stop(self, row: LaunchRow, *, reason: str, within_s: float) -> bool:
        """Stop the server; True once that is certain and settled, False: it stays STOPPING, counted, retried.

        A ledger that cannot be written keeps nobody's server running: it is stopped, and that is written later.
        """
        if row.started_at is None:
            await self.keep_what_failed(row)
        try:
            row = await self._note_stop(NOTE_WITHIN_S, row, reason)
        except LedgerBusy as error:
            self.log.error(
                "That launch %s of %s is to stop cannot be written down now: %s",
                self.id,
                row.user_name,
                error.log_message,
            )
            self._asked, done = reason, asyncio.Event()
            self.hub.keep(self._stop_unwritten(row, reason, within_s, done))
            await done.wait()
            return False
        return await self._stop_noted(row, reason, within_s)

    async def _stop_unwritten(self, row: LaunchRow, reason: str, within_s: float, done: asyncio.Event) -> None:
        """Stop the server, then write down what was asked as soon as the ledger can be written. ``done``: stopped."""
        try:
            if row.handle is not None:
                await self.hub.backend(row.backend).stop(row.handle, within_s=within_s)
        finally:
            done.set()
        try:
            row = await self._note_stop(math.inf, row, reason)
            if row.state is not LaunchState.ENDED:
                await self._stop_noted(row, reason, within_s)
        except DaasError as error:
            self.log.error("Stopping launch %s is left to the reconciler: %s", self.id, error.log_message)

    async def _note_stop(self, patience_s: float, row: LaunchRow, reason: str) -> LaunchRow:
        """Write down that it is to stop; an ended launch is returned as it is."""
        ledger, patiently = self.hub.ledger, self.hub.run_patiently
        if row.target is not Target.STOPPED:
            row = await patiently(
                patience_s, ledger.set_target, self.id, Target.STOPPED, now=utcnow(), reason=reason, by="hub"
            )
        if row.state is LaunchState.ENDED:
            return row
        return await patiently(patience_s, ledger.move, self.id, LaunchState.STOPPING, now=utcnow())

    async def _stop_noted(self, row: LaunchRow, reason: str, within_s: float) -> bool:
        if row.handle is None:
            nothing = Observation(Life.ENDED, reason=reason)
            await self.settle(row, nothing, evidence="no handle was ever saved, so nothing was started")
            return True
        seen = await self.hub.backend(row.backend).stop(row.handle, within_s=within_s)
        if seen.life is not Life.ENDED:
            self.log.error("Launch %s of %s could not be stopped yet: %s", self.id, row.user_name, seen.reason)
            await self._surely(self.hub.ledger.record_observation, self.id, seen, now=utcnow())
            return False
        await self.settle(row, replace(seen, reason=reason or seen.reason), evidence=f"{row.backend} stopped it")
        return True

    async def _surely(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A ledger call that must not be lost because another writer is busy for a while."""
        return await self.hub.run_patiently(LEDGER_WITHIN_S, fn, *args, **kwargs)

    # ------------------------------------------------------------ what is told of it

    async def log_now(self, row: LaunchRow) -> str | None:
        """The last lines of what the server printed, without secrets; None where that cannot be told."""
        if row.handle is None:
            return None
        try:
            shown = await asyncio.wait_for(self.hub.backend(row.backend).log_tail(row.handle), LOG_WITHIN_S)
        except (TimeoutError, DaasError):
            return None
        return shown

    async def keep_what_failed(self, row: LaunchRow) -> None:
        """Keep what is gone with its pod or folder: what it said and, where it never ran, what it was made of."""
        if row.started_at is None:
            await asyncio.gather(self.keep_log(row), self.keep_software(row.backend, row.handle, LOG_WITHIN_S))
        else:
            await self.keep_log(row)

    async def keep_log(self, row: LaunchRow) -> None:
        """Keep the end of the log of a server that failed; never raises: it is not worth an end of its own."""
        shown = await self.log_now(row)
        if shown is None:
            return
        try:
            await self.hub.run(self.hub.ledger.keep_log, self.id, shown)
        except LedgerBusy as error:
            self.log.warning("The log of launch %s is not kept: %s", self.id, error.log_message)

    async def keep_software(self, backend: str, handle: Handle | None, within_s: float = SOFTWARE_WITHIN_S) -> None:
        """Write down what a server is made of; never raises: a start does not fail because of it."""
        if handle is None:
            return
        try:
            made = await asyncio.wait_for(self.hub.backend(backend).software(handle), within_s)
            if made:
                digest = made.get("image_digest")
                await self.hub.run(self.hub.ledger.save_software, self.id, made, image_digest=digest)
        except (TimeoutError, DaasError) as error:
            self.log.warning("What launch %s is made of is not written down: %s", self.id, error)

    async def undo(self) -> None:
        """Take back a start that failed on one candidate, so that the next can be tried.

        Raises BackendUnavailable where it is not certain that nothing was left running.
        """
        row = await self.row()
        if row is None or row.state is LaunchState.ENDED:
            return
        if row.handle is not None:
            backend = self.hub.backend(row.backend)
            seen = await backend.stop(row.handle, within_s=UNDO_WITHIN_S)
            if seen.life is not Life.ENDED:
                raise BackendUnavailable(f"What was begun on {row.backend} could not be stopped: {seen.reason}")
            await backend.cleanup(row.handle)
        await self.hub.run(self.hub.ledger.move, self.id, LaunchState.RESERVED, now=utcnow())
