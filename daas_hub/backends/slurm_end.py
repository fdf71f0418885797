"""How servers on the cluster end: only what SLURM itself says is evidence, and an outage ends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from daas_hub.clients.slurm import Slurm
from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.grants import Booked
from daas_hub.core.models import Handle, Life, Observation
from daas_hub.core.slurm_books import booked
from daas_hub.core.slurm_jobs import Accounted, Job, Phase
from daas_hub.core.slurm_launches import (
    Ambiguous,
    Handles,
    Ref,
    find_job,
    is_recorded,
    missing,
    never_submitted,
    observation,
    own_runs,
    ref_of,
)

from . import local_probe
from .base import Doubt
from .local_homes import AnyLogger
from .slurm_settings import SlurmSettings
from .slurm_submit import Submitter
from .slurm_watch import JobWatch

AGE_S = 1.0
"""How old an answer may be by which a launch is judged."""
CHECK_EVERY_S = 30.0
"""How often a launch is judged although nothing was heard of it."""
ACCOUNTED_WITHIN_S = 3.0
"""How long accounting is waited for: it only says how a job ended."""
CANCEL_WITHIN_S = 15.0
HIDDEN = Observation(
    Life.UNKNOWN,
    reason="SLURM hides other people's jobs from the hub (PrivateData): the administrator must make it an operator",
)


class Ends:
    """Looks, waits and stops of one backend instance."""

    def __init__(
        self,
        settings: SlurmSettings,
        slurm: Slurm,
        submitter: Submitter,
        watch: JobWatch,
        log: AnyLogger,
        tls: Callable[[], Mapping[str, str]],
    ) -> None:
        """``tls``: the hub's own files (``Backend.tls``), which it is given after it was made."""
        self._settings, self._slurm, self._submitter, self._watch, self._log = settings, slurm, submitter, watch, log
        self._tls = tls
        self._handles = Handles()
        self.submitting: set[str] = set()
        """Launches whose submission is going on here."""
        self.begun: set[str] = set()
        """Launches whose submission was begun here."""

    # ------------------------------------------------------------ look

    async def inspect(self, handle: Handle, *, max_age_s: float = AGE_S) -> Observation:
        """One look; never raises."""
        return await self._judged(handle, self._watch.jobs(max_age_s))

    async def _judged(self, handle: Handle, asked: Coroutine[Any, Any, Mapping[int, Job]]) -> Observation:
        try:
            # The handle is read when the answer is there: a thousand wait for the same one, with as little as can be.
            jobs = await asked
            ref = self._handles.ref(handle)
            job = find_job(jobs, ref)
            if job is None:
                return await self._missing(ref)
            if job.phase is Phase.ENDED:
                return observation(job, await self._runs(ref, job.id))
            return observation(job)
        except Ambiguous as error:
            return Observation(Life.UNKNOWN, reason=str(error))
        except DaasError as error:
            return Observation(Life.UNKNOWN, reason=error.message)
        except (ValueError, TypeError, AttributeError) as error:
            return Observation(Life.UNKNOWN, reason=f"{type(error).__name__}: {error}")
        finally:
            asked.close()

    async def _missing(self, ref: Ref) -> Observation:
        """It is in no list: asked for by its id, accounting looked into, and its server, before it counts as over."""
        if ref.job_id is None:
            over = ref.launch_id in self.begun and ref.launch_id not in self.submitting
            seen = never_submitted(ref, over=over, now=datetime.now(UTC))
            return seen if seen.life is not Life.ENDED or await self._sees_all() else HIDDEN
        job = await self._slurm.job(ref.job_id)
        if job is not None and is_recorded(job, ref):
            return observation(job)
        if not await self._sees_all():
            return HIDDEN
        runs = await self._runs(ref, ref.job_id)
        answers = ref.port is not None and bool(ref.node) and await self.answers(ref)
        return missing(ref, runs, answers=answers, now=datetime.now(UTC))

    async def _sees_all(self) -> bool:
        """Whether what the hub has just not been shown is nowhere. Asked each time: the cluster's settings may have
        changed a moment ago."""
        return await self._slurm.sees_all_jobs(pwd.getpwuid(os.geteuid()).pw_name)

    async def _runs(self, ref: Ref, job_id: int) -> tuple[Accounted, ...]:
        try:
            async with asyncio.timeout(ACCOUNTED_WITHIN_S):
                return own_runs(ref, (await self._slurm.runs([job_id])).get(job_id, ()))
        except (BackendUnavailable, TimeoutError):
            return ()

    async def booked(self, handle: Handle) -> Booked | None:
        """What accounting has of a launch that has ended; None where nothing tells which job it was."""
        try:
            ref = ref_of(handle)
        except ValueError:
            return None
        if ref.job_id is None:
            return None
        return booked(None, own_runs(ref, (await self._slurm.runs([ref.job_id])).get(ref.job_id, ())))

    async def answers(self, ref: Ref) -> bool:
        """Whether its server answers where it said that it listens."""
        if ref.port is None or not ref.node:
            return False
        host, path = self._settings.address_of(ref.node, ref.launch_id, named=ref.named), f"{ref.service_prefix}api"
        return await local_probe.answers(ref.port, path, host=host, files=self._tls() if ref.tls else None)

    async def job(self, ref: Ref, *, max_age_s: float = AGE_S) -> Job | None:
        """The launch's job as the cluster lists it now. Raises BackendUnavailable, Ambiguous."""
        return find_job(await self._watch.jobs(max_age_s), ref)

    # ------------------------------------------------------------ wait

    async def wait(self, handle: Handle, doubt: Doubt | None = None) -> Observation:
        """Return once it has ended. A handle that names nothing is waited for without end: it cannot be told."""
        try:
            ref = ref_of(handle)
        except ValueError:
            await asyncio.get_running_loop().create_future()
            raise
        doubted, grant = False, None
        with self._watch.follow(ref) as changed:
            while True:
                changed.clear()
                seen = await self._judged(handle, self._watch.heard())
                if seen.life is Life.ENDED:
                    return seen
                unknown, other = seen.life is Life.UNKNOWN, seen.grant not in (None, grant)
                if doubt is not None and (doubted is not unknown or other):
                    doubted, grant = unknown, seen.grant or grant
                    await doubt(seen)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), CHECK_EVERY_S)

    # ------------------------------------------------------------ stop

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        """Cancel its job, and say what was seen. SLURM itself asks politely first, then uses force (KillWait)."""
        deadline = time.monotonic() + within_s
        try:
            ref = ref_of(handle)
        except ValueError as error:
            return Observation(Life.UNKNOWN, reason=str(error))
        try:
            async with asyncio.timeout(within_s):
                return await self._stop(ref, deadline)
        except TimeoutError:
            return Observation(Life.UNKNOWN, reason=f"its end was not seen within {within_s:g} s")

    async def _stop(self, ref: Ref, deadline: float) -> Observation:
        # What this very process has submitted just now is in no list that is older.
        seen = await self.inspect(ref.handle(), max_age_s=0)
        if seen.life is not Life.RUNNING:
            return seen
        if ref.job_id is None:
            job = await self.job(ref)
            if job is None:
                return Observation(Life.UNKNOWN, reason="its job was there a moment ago")
            ref = replace(ref, job_id=job.id)
        assert ref.job_id is not None  # noqa: S101  for mypy
        try:
            await self._submitter.cancel(ref, ref.job_id, within_s=CANCEL_WITHIN_S)
        except DaasError as error:
            self._log.warning(
                "Job %s of launch %s cannot be cancelled: %s", ref.job_id, ref.launch_id, error.log_message
            )
            return Observation(Life.UNKNOWN, reason=error.message)
        with self._watch.follow(ref, waiting=True) as changed:
            while time.monotonic() < deadline:
                changed.clear()
                seen = await self.inspect(ref.handle(), max_age_s=0)
                if seen.life is Life.ENDED:
                    return seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._settings.waiting_interval_s)
        return seen
