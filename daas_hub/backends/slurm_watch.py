"""One question for all jobs of the cluster, for the whole hub: who follows a launch is woken when its job changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daas_hub.clients.slurm_look import Looked, SharedLook
from daas_hub.core.backoff import delays
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import Ambiguous, Ref, find_job

from .local_homes import AnyLogger

LONGEST_PAUSE_S = 10.0
"""Between two questions while the cluster does not answer."""
SOON_S = 10.0
"""How long somebody who waits makes the questions more frequent: a job that has not begun by then may wait for hours,
and its server's report of its port tells that it runs."""


@dataclass(eq=False)
class Follower:
    """Who wants to hear of one launch."""

    ref: Ref
    soon_until: float
    """Until then it is asked for more often, by the loop's clock."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    last: object = None


class JobWatch:
    """Asks as long as anybody follows. Nothing is asked for a hub without servers."""

    def __init__(
        self, look: SharedLook[Mapping[int, Job]], log: AnyLogger, *, every_s: float, waiting_s: float
    ) -> None:
        self._look, self._log = look, log
        self._every_s, self._waiting_s = every_s, waiting_s
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._heard: Mapping[int, Job] | BackendUnavailable | None = None
        self._told: Looked[Mapping[int, Job]] | None = None

    async def heard(self) -> Mapping[int, Job]:
        """What the last question brought, for who was just woken by it. Raises BackendUnavailable where it failed."""
        if isinstance(self._heard, BackendUnavailable):
            raise BackendUnavailable(
                self._heard.message, reason=self._heard.reason, log_message=self._heard.log_message
            )
        return await self._look.get(0) if self._heard is None else self._heard

    async def jobs(self, max_age_s: float) -> Mapping[int, Job]:
        """All jobs, as they were at most so long ago; who follows hears of it, whoever asked. Raises
        BackendUnavailable."""
        jobs = await self._look.get(max_age_s)
        self._hear()
        return jobs

    def _hear(self) -> None:
        """Tell the last good answer, once."""
        last = self._look.last
        if last is not None and last is not self._told and self._followers:
            self._told, self._heard = last, last.value
            self._tell(last.value)

    @property
    def as_of(self) -> datetime | None:
        """When the last good answer was asked for; None: there was none yet."""
        last = self._look.last
        return None if last is None else last.as_of

    @contextlib.contextmanager
    def follow(self, ref: Ref, *, waiting: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set whenever what is known of the launch has changed, also that it cannot be told.

        ``waiting``: somebody waits for it, so it is asked for more often for a while.
        """
        now = asyncio.get_running_loop().time()
        follower = Follower(ref, now + SOON_S if waiting else 0.0)
        self._followers.add(follower)
        self._hurry.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield follower.changed
        finally:
            self._followers.discard(follower)

    async def _run(self) -> None:
        pauses = delays(self._every_s, max(LONGEST_PAUSE_S, self._every_s))
        while self._followers:
            try:
                await self._look.get(0)
            except BackendUnavailable as error:
                self._heard = error
                self._tell(None)
                pause_s = next(pauses)
                self._log.debug("SLURM cannot be asked for jobs: %s", error.log_message)
            else:
                self._hear()
                pauses = delays(self._every_s, max(LONGEST_PAUSE_S, self._every_s))
                pause_s = self.pause_s(asyncio.get_running_loop().time())
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                # Somebody new waits less than the pause that others agreed on.
                await asyncio.wait_for(self._hurry.wait(), max(pause_s - self._waiting_s, 0.01))
            await asyncio.sleep(min(pause_s, self._waiting_s))
        self._heard = None

    def pause_s(self, now: float) -> float:
        """How long after a good answer the next question is put."""
        return self._waiting_s if any(now < one.soon_until for one in self._followers) else self._every_s

    def _tell(self, jobs: Mapping[int, Job] | None) -> None:
        for follower in tuple(self._followers):
            now = None if jobs is None else gist(jobs, follower.ref)
            if now != follower.last:
                follower.last = now
                follower.changed.set()

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._look.close()


def gist(jobs: Mapping[int, Job], ref: Ref) -> object:
    """What of a job makes somebody look again; its age alone does not."""
    try:
        job = find_job(jobs, ref)
    except Ambiguous as error:
        return str(error)
    if job is None:
        return "missing"
    has = (job.cpus, job.memory_bytes, job.gpus, job.ends_at)
    return (job.id, job.state, job.host, job.started_at, job.reason, has)
