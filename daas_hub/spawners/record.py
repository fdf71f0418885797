"""One launch as the hub's process sees it: its row in the ledger and its server at the backend, kept together.

Everything here is idempotent, and nothing here raises for "cannot be told": unknown is a value. The decisions
are in ``core/launch.py``; who calls is ``spawner.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from logging import Logger
from typing import ParamSpec, TypeVar

from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.launch import STALE_AFTER_S
from daas_hub.core.models import LaunchState, Life, Observation, Target
from daas_hub.db.ledger import LaunchRow

from .runtime import DaasHub, utcnow

LOOK_WITHIN_S = 2.0
PROBE_WITHIN_S = 5.0
UNDO_WITHIN_S = 20.0
LEDGER_WITHIN_S = 20.0

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

    async def row(self) -> LaunchRow | None:
        """The ledger's row, or None where the ledger does not know this id."""
        return await self.hub.run(self.hub.ledger.get, self.id)

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
            await self.hub.run(self.hub.ledger.record_observation, self.id, seen, now=now)
        return seen

    async def answers(self, row: LaunchRow) -> bool:
        """Whether the server itself answers over HTTP within 5 s."""
        if row.handle is None:
            return False
        try:
            await asyncio.wait_for(self.hub.backend(row.backend).resume(row.handle), PROBE_WITHIN_S)
        except (TimeoutError, DaasError):
            return False
        return True

    async def wait_ended(self) -> Observation | None:
        """Return once the server has ended and the launch is settled; None where there is nothing to wait for."""
        row = await self.row()
        if row is None or row.state is LaunchState.ENDED or row.handle is None:
            return None
        seen = await self.hub.backend(row.backend).wait_ended(row.handle)
        await self.settle(row, seen, evidence=f"{row.backend} saw it end")
        return seen

    async def settle(self, row: LaunchRow, seen: Observation, *, evidence: str) -> None:
        """End the launch on evidence: leftovers removed, then reservation freed and usage closed.

        In this order, so that whoever reads ENDED finds nothing left, and the next start finds the settings that
        this one brought home. Once begun it goes on, also when the caller is cancelled: the hub cancels its watcher
        as soon as it hears of the end itself.
        """
        await asyncio.shield(self.hub.keep(self._settle(row, seen, evidence)))

    async def _settle(self, row: LaunchRow, seen: Observation, evidence: str) -> None:
        async with self.hub.settling(self.id):
            now_row = await self.row()
            if now_row is None or now_row.state is LaunchState.ENDED:
                return
            if row.handle is not None:
                try:
                    await self.hub.backend(row.backend).cleanup(row.handle)
                except DaasError as error:
                    self.log.warning("Leftovers of launch %s stay for later: %s", self.id, error.log_message)
            target_reason = now_row.target_reason if now_row.target is Target.STOPPED else ""
            reason = target_reason or seen.reason
            ended = await self._surely(
                self.hub.ledger.settle, self.id, code=seen.exit_code, reason=reason, evidence=evidence, now=utcnow()
            )
            if ended:
                said = reason or "no reason"
                self.log.info("Launch %s of %s ended: %s (%s)", self.id, row.user_name, said, evidence)

    async def stop(self, row: LaunchRow, *, reason: str, within_s: float) -> bool:
        """Stop the server; True once that is certain and settled, False: it stays STOPPING, counted, retried."""
        ledger = self.hub.ledger
        if row.target is not Target.STOPPED:
            row = await self._surely(ledger.set_target, self.id, Target.STOPPED, now=utcnow(), reason=reason, by="hub")
        row = await self._surely(ledger.move, self.id, LaunchState.STOPPING, now=utcnow())
        if row.handle is None:
            nothing = Observation(Life.ENDED, reason=reason)
            await self.settle(row, nothing, evidence="no handle was ever saved, so nothing was started")
            return True
        seen = await self.hub.backend(row.backend).stop(row.handle, within_s=within_s)
        if seen.life is not Life.ENDED:
            self.log.error("Launch %s of %s could not be stopped yet: %s", self.id, row.user_name, seen.reason)
            await self._surely(ledger.record_observation, self.id, seen, now=utcnow())
            return False
        await self.settle(row, replace(seen, reason=reason or seen.reason), evidence=f"{row.backend} stopped it")
        return True

    async def _surely(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A ledger call that must not be lost because another writer is busy for a while."""
        return await self.hub.run_patiently(LEDGER_WITHIN_S, fn, *args, **kwargs)

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
