"""Hands a launch's files out for its claim code: to its own job, while that runs, once in each run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from weakref import WeakValueDictionary

from daas_hub.core.errors import BackendUnavailable, NotAllowed
from daas_hub.core.handout import Handout
from daas_hub.core.slurm_claims import WORDS, Verdict, digest, judged, knows
from daas_hub.core.slurm_launches import Ambiguous, Ref, run_of

from .local_watch import in_thread
from .slurm_end import Ends
from .slurm_records import Records
from .slurm_settings import SlurmSettings


class Claims:
    """The codes of one hub's launches. What is known of them is in the hub's own records, and outlives it."""

    def __init__(self, settings: SlurmSettings, records: Records, ends: Ends) -> None:
        self._settings, self._records, self._ends = settings, records, ends
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def redeem(self, ref: Ref, code: str, by: str) -> Handout:
        """The files, and the name of the node that it runs on.

        Raises NotAllowed with the verdict as its reason, BackendUnavailable. ``by``: the secret of the
        process that asks, by which it may ask again.
        """
        async with self._turns.setdefault(ref.launch_id, asyncio.Lock()):
            try:
                return await self._redeemed(ref, code, by)
            except OSError as error:
                raise BackendUnavailable(f"The code cannot be judged now: {error}", reason="record") from error

    async def _redeemed(self, ref: Ref, code: str, by: str) -> Handout:
        claim = await in_thread(self._records.claim, ref.launch_id)
        # Before the cluster is asked: nobody without a code makes work.
        if claim is None or not knows(claim, code):
            raise _refused(ref, Verdict.WRONG)
        try:
            job = await self._ends.job(ref, max_age_s=0)
        except Ambiguous as error:
            raise BackendUnavailable(str(error), reason="ambiguous") from error
        if job is None and ref.job_id is None:
            raise BackendUnavailable("The job's id is not known yet.", reason="submitting")
        verdict = judged(claim, by, job)
        if verdict is Verdict.GIVEN:
            # Written down before it is answered: a hub that dies in between has given nothing away twice.
            claim = replace(claim, run=run_of(job), by=digest(by))
            await in_thread(self._records.save_claim, ref.launch_id, claim)
        elif verdict is not Verdict.AGAIN:
            raise _refused(ref, verdict)
        files = await in_thread(self._records.files, ref.launch_id)
        if not ref.tls or job is None:
            return Handout(files)
        return Handout(files, (self._settings.certificate_name(job.host, ref.launch_id, named=ref.named),))


def _refused(ref: Ref, verdict: Verdict) -> NotAllowed:
    said = f"Nothing is handed out: {WORDS[verdict]}."
    return NotAllowed(said, reason=verdict.value, log_message=f"Launch {ref.launch_id}, job {ref.job_id}: {said}")
