"""One start on the cluster, step by step: script, submission, the wait in the queue, the port, and until it answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from daas_hub.clients import machine
from daas_hub.clients.slurm import Slurm
from daas_hub.core.errors import BackendUnavailable, DaasError, StartFailed
from daas_hub.core.logs import LINES, readable
from daas_hub.core.looks import look_every_s
from daas_hub.core.models import Event, LaunchSpec, Life
from daas_hub.core.placement import about
from daas_hub.core.slurm_jobs import Job, Phase, expected_by_test, position
from daas_hub.core.slurm_launches import CONFIGURING, Ambiguous, Ref, first_ref, has_begun, run_of
from daas_hub.core.slurm_words import reason_in_words

from .base import Checkpoint
from .finished import finished
from .local_homes import AnyLogger
from .local_watch import in_thread
from .slurm_end import Ends
from .slurm_records import Records
from .slurm_settings import SlurmSettings
from .slurm_submit import Submitter
from .slurm_watch import JobWatch
from .steps import Steps

T = TypeVar("T")


@dataclass(frozen=True)
class Tools:
    """What all starts of one backend share."""

    settings: SlurmSettings
    slurm: Slurm
    submitter: Submitter
    watch: JobWatch
    ends: Ends
    records: Records
    log: AnyLogger


class Reports:
    """Ports that servers have reported to this hub, by launch; the last one counts."""

    def __init__(self) -> None:
        self._refs: dict[str, Ref] = {}
        self._told: dict[str, asyncio.Event] = {}
        self.looking: set[str] = set()
        """Launches whose servers are looked at until they answer."""

    def of(self, launch_id: str) -> Ref | None:
        """What was reported; None: nothing since this process began."""
        return self._refs.get(launch_id)

    def put(self, ref: Ref) -> None:
        """A server's port became known."""
        self._refs[ref.launch_id] = ref
        self.event(ref.launch_id).set()

    def event(self, launch_id: str) -> asyncio.Event:
        """Set when a port becomes known."""
        return self._told.setdefault(launch_id, asyncio.Event())

    def forget(self, launch_id: str) -> None:
        """The launch is over."""
        self._refs.pop(launch_id, None)
        self._told.pop(launch_id, None)


class Start:
    """The start of one launch."""

    def __init__(self, spec: LaunchSpec, tools: Tools, reports: Reports, steps: Steps) -> None:
        self._tools, self._reports, self._steps = tools, reports, steps
        self._spec = spec
        self._submitted_as: Ref | None = None

    async def run(self, checkpoint: Checkpoint) -> str:
        """The URL of the server once it answers."""
        ref = await self._known() or first_ref(self._spec, datetime.now(UTC), named=self._tools.settings.names_launches)
        await self._keep(ref)
        await checkpoint(ref.handle())
        if ref.job_id is None:
            self._steps.add("Submitting the job", 42)
            ref = replace(ref, job_id=await self._submitted(ref))
            await self._keep(ref)
            await checkpoint(ref.handle())
        self._submitted_as = ref
        ref = await wait_ready(ref, self._tools, self._reports, self._steps, tuple(self._spec.secrets.values()))
        await self._keep(ref)
        await checkpoint(ref.handle())
        return url_of(ref, self._tools.settings)

    async def _known(self) -> Ref | None:
        """What an earlier call for the same launch has submitted, if that has not ended."""
        ref = await in_thread(self._tools.records.of, self._spec.launch_id)
        if ref is None:
            return None
        job = await self._tools.ends.job(ref, max_age_s=0)
        if job is None or job.phase is Phase.ENDED:
            return None
        return replace(ref, job_id=job.id)

    async def _keep(self, ref: Ref) -> None:
        await in_thread(self._tools.records.save, ref)

    async def _submitted(self, ref: Ref) -> int:
        """Submit it; never left in the middle: a job that nobody knows might appear afterwards."""
        ends = self._tools.ends
        ends.begun.add(ref.launch_id)
        ends.submitting.add(ref.launch_id)
        try:
            return await finished(self._tools.submitter.submit(self._spec, ref))
        finally:
            ends.submitting.discard(ref.launch_id)

    async def estimate(self) -> Event | None:
        """When a job like it would start, where squeue does not say when it will; None: it says so, or nobody can."""
        ref, tools = self._submitted_as, self._tools
        if ref is None:
            return None
        try:
            job = await tools.ends.job(ref, max_age_s=tools.settings.poll_interval_s * 5)
            if job is None or job.phase is not Phase.WAITING or job.expected_at is not None or not job.priority:
                return None
            asked_at = datetime.now(UTC)
            if tools.submitter.untested:
                return Event(asked_at, tools.submitter.untested, replaces="test-only")
            said = await tools.submitter.tested(self._spec, ref)
        except (DaasError, Ambiguous) as error:
            tools.log.warning("No estimate for launch %s: %s", ref.launch_id, error)
            return None
        expected = expected_by_test(said, await in_thread(machine.zone))
        if expected is None:
            return None
        words = f"A job like it, submitted now, would start at {about(expected, asked_at)}"
        return Event(asked_at, words, said, None, asked_at, replaces="test-only")


def url_of(ref: Ref, settings: SlurmSettings) -> str:
    """Where the hub's proxy finds the server."""
    host = settings.address_of(ref.node, ref.launch_id, named=ref.named)
    return f"{'https' if ref.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{ref.port}"


# ---------------------------------------------------------------- the wait


async def wait_ready(
    ref: Ref, tools: Tools, reports: Reports, steps: Steps | None = None, secrets: tuple[str, ...] = ()
) -> Ref:
    """The launch with node and port once its server answers. Raises StartFailed where it ends first."""
    wait = _Wait(ref, tools, reports, steps, secrets)
    with tools.watch.follow(ref, waiting=True) as changed:
        return await wait.run(changed)


class _Wait:
    """Between submission and the server's first answer."""

    def __init__(self, ref: Ref, tools: Tools, reports: Reports, steps: Steps | None, secrets: tuple[str, ...]) -> None:
        self._ref, self._tools, self._reports, self._steps, self._secrets = ref, tools, reports, steps, secrets
        self._running_since: float | None = None
        self._looking_since: float | None = None

    async def run(self, changed: asyncio.Event) -> Ref:
        """Until it answers."""
        try:
            return await self._run(changed)
        finally:
            self._reports.looking.discard(self._ref.launch_id)

    async def _run(self, changed: asyncio.Event) -> Ref:
        loop = asyncio.get_running_loop()
        reported = self._reports.event(self._ref.launch_id)
        while True:
            changed.clear()
            reported.clear()
            job = await self._look()
            if job is not None and has_begun(job):
                self._running_since = self._running_since or loop.time()
                ref = self._with_report(job)
                if ref is not None and await self._tools.ends.answers(ref):
                    return ref
                if loop.time() - self._running_since > self._tools.settings.answer_timeout_s:
                    raise await self._no_answer(ref)
                seldom_s = self._tools.settings.waiting_interval_s
                pause_s = seldom_s if ref is None else self._look_again_s(loop.time())
            else:
                self._running_since = self._looking_since = None
                pause_s = self._tools.settings.poll_interval_s * 5
            await first_of(pause_s, changed, reported)

    def _look_again_s(self, now: float) -> float:
        """How soon a server that has reported its port, and does not answer yet, is looked at again."""
        looking = self._reports.looking
        looking.add(self._ref.launch_id)
        self._looking_since = since = self._looking_since or now
        return look_every_s(len(looking), now - since)

    def _with_report(self, job: Job) -> Ref | None:
        """The launch as its present run reported it; None while it has not."""
        known = self._reports.of(self._ref.launch_id) or self._ref
        if known.port is None:
            return None
        began = run_of(job)
        if known.port_of is not None and began is not None and known.port_of < began:
            # What an earlier run of the same job reported; it was requeued.
            return None
        self._ref = replace(self._ref, job_id=job.id, port=known.port, port_of=began, node=job.host)
        self._say(f"The server starts on {job.host}", 70)
        return self._ref

    async def _look(self) -> Job | None:
        """The job, told as a step; None while that cannot be asked. Raises StartFailed where it has ended."""
        try:
            settings = self._tools.settings
            # What the watch asks for by itself is young enough.
            job = await self._tools.ends.job(
                self._ref, max_age_s=settings.poll_interval_s + settings.waiting_interval_s
            )
        except (BackendUnavailable, Ambiguous) as error:
            self._say("The cluster does not answer just now; the job is not affected", None, str(error))
            return None
        if job is not None and job.host:
            # Where it is known: whoever looks for its log must know where.
            self._ref = replace(self._ref, node=job.host)
        if job is None or job.phase is Phase.ENDED:
            seen = await self._tools.ends.inspect(self._ref.handle(), max_age_s=0)
            if seen.life is Life.ENDED:
                raise await self._ended(seen.reason)
            return None
        await self._tell(job)
        return job

    async def _tell(self, job: Job) -> None:
        if self._steps is None:
            return
        if job.phase is Phase.WAITING:
            jobs = await self._tools.watch.jobs(self._tools.settings.poll_interval_s * 5)
            place = position(jobs, job)
            words = [f"Job {job.id} waits in partition {job.partition}. {reason_in_words(job.reason).text.rstrip('.')}"]
            words += [f"number {place} in line"] if place is not None else []
            expected, as_of = job.expected_at, None
            if expected is not None:
                as_of = self._tools.watch.as_of
                words.append(f"expected to start at {about(expected, datetime.now(UTC))}")
            why = f"{job.state} ({job.reason})"
            self._say("; ".join(words), 45, why, as_of=as_of, replaces=f"{job.id} {why}")
        elif job.state == CONFIGURING:
            self._say(f"Job {job.id} has got {job.host or 'a node'}, which is being made ready", 55, job.state)
        elif job.phase is Phase.RUNNING and self._ref.port is None:
            self._say(f"Job {job.id} runs on {job.host}", 60)
        elif job.phase is Phase.SUSPENDED:
            self._say(f"Job {job.id} is suspended by the cluster", None, job.state)

    def _say(
        self, message: str, progress: int | None, detail: str = "", *, as_of: datetime | None = None, replaces: str = ""
    ) -> None:
        if self._steps is not None:
            self._steps.add(message, progress, detail, as_of=as_of, replaces=replaces)

    async def _ended(self, why: str) -> StartFailed:
        lines, where = await self._last_lines()
        return StartFailed(
            f"The server ended before it answered: {why}.{where}",
            permanent=True,
            reason="ended_early",
            log_message=f"Launch {self._ref.launch_id}, job {self._ref.job_id}: {why}. {lines}",
        )

    async def _no_answer(self, ref: Ref | None) -> StartFailed:
        after = f"within {self._tools.settings.answer_timeout_s:g} s of its job's start"
        what = "The server's port is not known" if ref is None else "The server did not answer"
        lines, where = await self._last_lines()
        return StartFailed(
            f"{what} {after}.{where}",
            permanent=False,
            reason="timeout",
            log_message=f"Launch {self._ref.launch_id}, job {self._ref.job_id}: {what} {after}. {lines}",
        )

    async def _last_lines(self) -> tuple[str, str]:
        return await last_lines(self._ref, self._tools.submitter, self._secrets)


async def last_lines(ref: Ref, submitter: Submitter, secrets: tuple[str, ...] = ()) -> tuple[str, str]:
    """The end of a server's log, without secrets; and where it lies, for people, if the hub cannot read it."""
    try:
        text = await submitter.log(ref)
    except DaasError as error:
        return f"Its log cannot be read: {error.log_message}", f" {error.message}" if error.reason == "log" else ""
    shown = readable(text or "", secrets, lines=LINES).strip()
    return (f"Its last lines:\n{shown}" if shown else "It printed nothing."), ""


async def first_of(within_s: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set, at most so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
