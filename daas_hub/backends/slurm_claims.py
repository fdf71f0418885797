"""Hands a launch's files out for its claim code: to its own job, while that runs, once in each run.

The process that has claimed has a secret, which its code was exchanged for. With it the same run fetches its site
tokens again and again, and sends the end of its log when it is over.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from weakref import WeakValueDictionary

from daas_hub.core.errors import BackendUnavailable, NotAllowed
from daas_hub.core.handout import Handout, TokenSet, token_set
from daas_hub.core.slurm_claims import WORDS, Claim, Verdict, claimed_by, digest, goes_on, judged, knows
from daas_hub.core.slurm_launches import Ambiguous, Ref, run_of

from .local_watch import in_thread
from .slurm_end import Ends
from .slurm_records import Records
from .slurm_settings import SlurmSettings

LOOK_WITHIN_S = 2.0
"""So long a server's question for its tokens waits for a cluster that does not answer: many ask, again and again."""


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

    async def tokens(self, ref: Ref, by: str, margin_s: float) -> TokenSet:
        """The set of the launch's site tokens. Raises NotAllowed, BackendUnavailable."""
        try:
            await self._require_run(ref, await self._claimed(ref, by))
            saved = await in_thread(self._records.tokens_of, ref.launch_id)
        except OSError as error:
            raise BackendUnavailable(f"The site tokens cannot be read now: {error}", reason="record") from error
        if saved is not None and not saved.get("done"):
            raise BackendUnavailable("The site tokens are just being replaced.", reason="site_tokens")
        return token_set(None if saved is None else saved.get("files") or {}, now=time.time(), margin_s=margin_s)

    async def log(self, ref: Ref, by: str, text: str) -> None:
        """Keep the end of its log. The job is not asked for: it may have ended. Raises as ``tokens`` does."""
        try:
            await self._claimed(ref, by)
            await in_thread(self._records.save_log, ref.launch_id, text)
        except OSError as error:
            raise BackendUnavailable(f"The end of the log cannot be kept now: {error}", reason="record") from error

    async def _claimed(self, ref: Ref, by: str) -> Claim:
        claim = await in_thread(self._records.claim, ref.launch_id)
        if claim is None or not claimed_by(claim, by):
            raise _refused(ref, Verdict.WRONG)
        return claim

    async def _require_run(self, ref: Ref, claim: Claim) -> None:
        """The run goes on. While the cluster cannot be asked, the secret and the ledger are proof enough."""
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                # A list of before the claim has no such run.
                for max_age_s in (self._settings.poll_interval_s * 5, 0):
                    if goes_on(claim, await self._ends.job(ref, max_age_s=max_age_s)):
                        return
        except (BackendUnavailable, Ambiguous, TimeoutError):
            return
        raise _refused(ref, Verdict.NOT_RUNNING)


def _refused(ref: Ref, verdict: Verdict) -> NotAllowed:
    said = f"Nothing is handed out: {WORDS[verdict]}."
    return NotAllowed(said, reason=verdict.value, log_message=f"Launch {ref.launch_id}, job {ref.job_id}: {said}")
