"""Servers on a SLURM cluster, each a job of its own account.

The flow of a start: the script is what batchspawner's SlurmSpawner would submit (``slurm_script``); a record of it is
kept where only the hub can write (``slurm_records``); it is submitted by the helper or by slurmrestd
(``slurm_submit``), so that it is the account's; the handle is saved; the start waits for its turn in the queue, however
long ``wait_policy_s`` allows; the job's launcher reports the port; the start is over when the server answers. One
question for all jobs serves the whole hub (``slurm_watch``); what ends a server is in ``slurm_end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from traitlets import default

from daas_hub.clients.helper_program import away
from daas_hub.clients.slurm import Slurm
from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import AccountRefused, BackendUnavailable, DaasError, NotAllowed, StartFailed
from daas_hub.core.grants import Booked
from daas_hub.core.handout import Handout, TokenSet
from daas_hub.core.launch_names import name_of, not_too_many
from daas_hub.core.logs import LINES, readable
from daas_hub.core.models import Event, Found, Handle, Json, LaunchSpec, Life, Observation, Pretender
from daas_hub.core.slurm_choices import May
from daas_hub.core.slurm_jobs import Job, Phase
from daas_hub.core.slurm_launches import Ambiguous, Ref, find_job, forged, ref_of, takes_report, with_port

from . import local_folder
from .base import Backend, Checkpoint, Doubt
from .local_watch import in_thread
from .slurm_capacity import CapacityLook
from .slurm_claims import Claims
from .slurm_end import Ends
from .slurm_may import MayLook
from .slurm_records import Records
from .slurm_script import check_settings, site_choices
from .slurm_settings import SlurmSettings
from .slurm_start import Reports, Start, Tools, url_of, wait_ready
from .slurm_submit import NO_LOG_HERE, submitter
from .slurm_tokens import Tokens
from .slurm_watch import JobWatch
from .steps import Steps

QUEUE_S = 3600
"""How long a start waits by default: a queue is not a fault."""
CLEAN_WITHIN_S = 30.0


class SlurmBackend(SlurmSettings, Backend):
    """Starts servers as jobs of the account's uid and gids."""

    name = "slurm"
    has_partitions = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_settings(self.config)
        slurm = Slurm(prefix=self.command_prefix, within_s=self.command_timeout_s)
        watch = JobWatch(
            SharedLook(slurm.jobs),
            self.log,
            every_s=self.poll_interval_s,
            waiting_s=min(self.waiting_interval_s, self.poll_interval_s),
        )
        records = Records(Path(self.runtime_dir) / self.hub_id)
        way = submitter(self, self.config, records)
        ends = Ends(self, slurm, way, watch, self.log, lambda: self.tls)
        self._tools = Tools(self, slurm, way, watch, ends, records, self.log)
        self._tokens = Tokens(way, records)
        self._claims = Claims(self, records, ends)
        self._capacity = CapacityLook(slurm, watch)
        self._may = MayLook(slurm, self._capacity, site_choices(self.config), self.log)
        self._reports = Reports()
        self._steps: dict[str, Steps] = {}
        self._starting: dict[str, Start] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pretenders: Sequence[Job] = ()

    @default("wait_policy_s")
    def _wait_in_line(self) -> int:
        return QUEUE_S

    @default("site_tokens_margin_s")
    def _until_the_nodes_see_it(self) -> float:
        # What a node knows of a shared home may be a minute old (nfs(5), acdirmax).
        return 120.0

    def claim(self, ledger_id: str) -> None:
        local_folder.claim(self._tools.records.root, ledger_id, setting="SlurmBackend.runtime_dir")

    async def capacity(self) -> Sequence[Capacity]:
        return await self._capacity.look(self.name)

    async def may_use(self, account_name: str, *, max_age_s: float) -> May | None:
        return await self._may.look(account_name, max_age_s)

    # ------------------------------------------------------------ start

    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        if spec.account.uid == 0 or spec.account.gid == 0:
            raise AccountRefused("Servers never run as root.", reason="forbidden_id")
        for mount in spec.mounts:
            if mount.source != mount.path or mount.read_only:
                text = f"{mount.path} cannot be mounted from {mount.source} on the cluster's nodes."
                raise StartFailed(text, permanent=True, reason="mount")
        return {}

    async def certificate_names(self, spec: LaunchSpec) -> Sequence[str]:
        """All nodes that its job may get: which one it is, is known only when it runs.

        Where a job claims its files then, its certificate is made then, and this one leads nowhere.
        """
        if self._tools.submitter.claims:
            return [f"DNS:{name_of(spec.launch_id, 'unclaimed')}"]
        wanted = str((spec.override.get("slurm") or {}).get("partition") or "")
        told = await self._capacity.partitions()
        if told is None:
            raise away("Which nodes there are cannot be asked now", "partitions")
        chosen = [one for one in told.value if one.name in wanted.split(",")] if wanted else told.value
        nodes = {node.name for partition in chosen for node in partition.nodes}
        if not nodes:
            raise StartFailed(
                f"The cluster has no partition {wanted!r}. Choose another one, or ask the administrator.",
                permanent=True,
                reason="partition",
            )
        return not_too_many([self.certificate_name(node, spec.launch_id) for node in nodes])

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        lock = self._locks.setdefault(spec.launch_id, asyncio.Lock())
        async with lock:
            steps = self._steps[spec.launch_id] = Steps()
            start = self._starting[spec.launch_id] = Start(spec, self._tools, self._reports, steps)
            try:
                async with asyncio.timeout(self.wait_policy_s):
                    return await start.run(checkpoint)
            except TimeoutError as error:
                message = f"The cluster did not start the server within {self.wait_policy_s} s."
                raise StartFailed(
                    message, permanent=False, reason="timeout", log_message=f"Launch {spec.launch_id}: {message}"
                ) from error
            finally:
                self._starting.pop(spec.launch_id, None)
                steps.finish()

    @property
    def estimate_every_s(self) -> float:
        return float(self.test_only_s)

    async def estimate(self, handle: Handle) -> Event | None:
        start = self._starting.get(handle["launch_id"])
        return await start.estimate() if start is not None else None

    async def resume(self, handle: Handle) -> str:
        try:
            ref = ref_of(handle)
        except ValueError as error:
            raise BackendUnavailable(f"It cannot be told whether the server runs: {error}.") from error
        steps = self._steps.get(ref.launch_id)
        if steps is None or steps.finished:
            # Before anything is awaited: whoever follows this wait looks for them at once.
            steps = self._steps[ref.launch_id] = Steps()
        try:
            return await self._resume(ref, handle, steps)
        finally:
            steps.finish()

    async def _resume(self, ref: Ref, handle: Handle, steps: Steps) -> str:
        seen = await self._tools.ends.inspect(handle)
        if seen.life is Life.UNKNOWN:
            raise BackendUnavailable(f"It cannot be told whether the server runs: {seen.reason}.")
        if seen.life is Life.ENDED:
            raise StartFailed(f"The server has ended: {seen.reason}.", permanent=True, reason="ended")
        if await self._tools.ends.answers(ref):
            return url_of(ref, self)
        try:
            async with asyncio.timeout(self.wait_policy_s):
                return url_of(await wait_ready(ref, self._tools, self._reports, steps), self)
        except TimeoutError as error:
            raise BackendUnavailable(
                f"The job is there, but its server did not answer within {self.wait_policy_s} s.", reason="no_answer"
            ) from error

    async def reported(self, handle: Handle, port: int) -> Handle | None:
        try:
            ref = ref_of(handle)
        except ValueError:
            return None
        if ref.job_id is None:
            raise BackendUnavailable("The job's id is not known yet.", reason="submitting")
        try:
            # An older look may have an earlier run of the job, or none.
            job = await self._tools.ends.job(ref, max_age_s=0)
        except Ambiguous as error:
            raise BackendUnavailable(str(error), reason="ambiguous") from error
        taken = takes_report(ref, job)
        if taken is None:
            raise BackendUnavailable("The job is not seen to run yet.", reason="not_running")
        if not taken:
            return None
        ref = with_port(ref, port, job)
        try:
            await in_thread(self._tools.records.save, ref)
        except OSError as error:
            raise BackendUnavailable(f"The port cannot be written down: {error}", reason="record") from error
        self._reports.put(ref)
        return ref.handle()

    async def redeem(self, handle: Handle, code: str, by: str) -> Handout:
        return await self._claims.redeem(_claimed(handle), code, by)

    async def fetched_tokens(self, handle: Handle, by: str) -> TokenSet:
        return await self._claims.tokens(_claimed(handle), by, self.site_tokens_margin_s)

    async def told_log(self, handle: Handle, by: str, text: str) -> None:
        await self._claims.log(_claimed(handle), by, text)

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        steps = self._steps.get(handle["launch_id"])
        if steps is not None:
            async for event in steps.follow():
                yield event

    # ------------------------------------------------------------ look, end

    async def inspect(self, handle: Handle) -> Observation:
        return await self._tools.ends.inspect(handle)

    async def wait_ended(self, handle: Handle, *, doubt: Doubt | None = None) -> Observation:
        return await self._tools.ends.wait(handle, doubt)

    async def booked(self, handle: Handle) -> Booked | None:
        return await self._tools.ends.booked(handle)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        return await self._tools.ends.stop(handle, within_s=within_s)

    async def log_tail(self, handle: Handle, lines: int = LINES) -> str | None:
        try:
            text = await self._tools.submitter.log(ref_of(handle))
        except ValueError:
            return None
        except DaasError as error:
            if error.reason != NO_LOG_HERE:
                self.log.warning("The log of launch %s cannot be read now: %s", handle["launch_id"], error.log_message)
            return None
        return None if text is None else readable(text, lines=lines)

    async def hand_over(self, handle: Handle, files: Mapping[str, str]) -> None:
        await self._tokens.put(handle, files)

    async def handed_over(self, handle: Handle) -> Mapping[str, str]:
        return await self._tokens.there(handle)

    async def find(self) -> Sequence[Found]:
        jobs = await self._tools.watch.jobs(self.poll_interval_s)
        refs = {ref.launch_id: ref for ref in await self._records()}
        found = []
        for ref in refs.values():
            try:
                job = find_job(jobs, ref)
            except Ambiguous as error:
                self.log.error("Launch %s: %s: neither is believed to be it", ref.launch_id, error)
                continue
            if job is not None and job.phase is not Phase.ENDED:
                handle = {**ref.handle(), "job_id": job.id}
                found.append(Found(ref.launch_id, handle, job.uid, job.started_at or job.submitted_at))
        await self._accuse(forged(jobs.values(), refs, self.hub_id), refs)
        return found

    async def _accuse(self, jobs: Sequence[Job], refs: Mapping[str, Ref]) -> None:
        """Say once of each job that it bears a launch's name and is none."""
        known = {job.id for job in self._pretenders}
        if any(job.id not in known for job in jobs):
            # Of a launch that has just ended the record may be gone, and its job still be in a list that is older.
            now = await self._tools.watch.jobs(0)
            jobs = forged([now[job.id] for job in jobs if job.id in now], refs, self.hub_id)
        for job in jobs:
            if job.id not in known:
                self.log.error(
                    "Job %s of %s (uid %s) says that it is a launch of this hub (%s); it is not, and is left alone",
                    job.id, job.user, job.uid, job.comment[:200],
                )  # fmt: skip
        self._pretenders = jobs

    async def pretenders(self) -> Sequence[Pretender]:
        return [
            Pretender(
                f"{job.id} of {job.submitted_at.isoformat()}",
                {"job": job.id, "user": job.user, "uid": job.uid, "comment": job.comment[:200]},
            )
            for job in self._pretenders
        ]

    async def leftovers(self) -> Sequence[Handle]:
        return [ref.handle() for ref in await self._records()]

    async def _records(self) -> Sequence[Ref]:
        try:
            return await in_thread(self._tools.records.all)
        except OSError as error:
            raise BackendUnavailable(f"The records of what was submitted cannot be read: {error}") from error

    async def cleanup(self, handle: Handle) -> None:
        try:
            ref = ref_of(handle)
            await self._tokens.remove(ref)
            await self._tools.submitter.clean(ref, within_s=CLEAN_WITHIN_S)
            await in_thread(self._tools.records.remove, ref.launch_id)
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"What the launch left cannot be removed yet: {error}") from error
        self._tools.ends.begun.discard(ref.launch_id)
        self._reports.forget(ref.launch_id)
        self._steps.pop(ref.launch_id, None)

    async def cleanup_lost(self, launch_id: str) -> None:
        lock = self._locks.get(launch_id)
        if lock is not None and lock.locked():
            # A start of this very process is at it: it removes what it made itself.
            return
        ref = await in_thread(self._tools.records.of, launch_id)
        if ref is None:
            return
        if (await self.inspect(ref.handle())).life is not Life.ENDED:
            raise BackendUnavailable("What was begun of the launch cannot be removed: its job is there.")
        await self.cleanup(ref.handle())

    async def software(self, handle: Handle) -> Json:
        program = handle.get("program")
        return {"interpreter": program} if isinstance(program, str) and handle.get("backend") == self.name else {}

    async def close(self) -> None:
        await self._may.close()
        await self._capacity.close()
        await self._tools.watch.close()
        await self._tools.submitter.close()


def _claimed(handle: Handle) -> Ref:
    try:
        return ref_of(handle)
    except ValueError as error:
        raise NotAllowed(f"Nothing is handed out: {error}.", reason="handle") from error
