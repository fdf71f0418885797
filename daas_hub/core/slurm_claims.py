"""Whether a claim code is honoured: a job that was submitted by REST gets its files for it, once for each run. Pure.

The code is in the job's script, which the cluster's administrators can read. So it is good only while its own job runs,
and whoever uses it first in a run is the only one: what comes second is refused, and told.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum

from .models import Json
from .slurm_jobs import Job, Phase
from .slurm_launches import run_of


class Verdict(StrEnum):
    """What becomes of a claim."""

    GIVEN = "given"
    AGAIN = "again"
    """The same process asks once more, because an answer was lost."""
    WRONG = "wrong_code"
    USED = "used"
    """Somebody has had the files of this run."""
    NOT_RUNNING = "not_running"
    NO_JOB = "no_job"


WORDS = {
    Verdict.WRONG: "there is no such code",
    Verdict.USED: "the code has been used in this run of its job",
    Verdict.NOT_RUNNING: "its job does not run",
    Verdict.NO_JOB: "there is no such job",
}
"""Why a claim is refused."""


@dataclass(frozen=True)
class Claim:
    """What the hub keeps of a code."""

    code: str
    """Its digest: whoever reads this cannot use it."""
    run: float | None = None
    """When the run of the job began in which it was last used, in seconds since 1970."""
    by: str = ""
    """The digest of the secret of the process that used it."""

    def saved(self) -> Json:
        """As it is written down."""
        return {"code": self.code, "run": self.run, "by": self.by}


def claim_of(saved: Json | None) -> Claim | None:
    """What was written down; None where nothing was, or what nobody can read."""
    match saved:
        case {"code": str(code), "run": float() | int() | None as run, "by": str(by)}:
            return Claim(code, None if run is None else float(run), by)
    return None


def digest(secret: str) -> str:
    """What is kept of a secret of 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def knows(claim: Claim | None, code: str) -> bool:
    """Whether this is the launch's code, in the same time for every wrong one."""
    return hmac.compare_digest(claim.code if claim is not None else digest(""), digest(code)) and claim is not None


def claimed_by(claim: Claim | None, by: str) -> bool:
    """Whether this is the secret of the process that claimed last, in the same time for every wrong one."""
    last = claim.by if claim is not None and claim.by else digest("")
    return hmac.compare_digest(last, digest(by)) and claim is not None and bool(claim.by)


def goes_on(claim: Claim, job: Job | None) -> bool:
    """Whether the run of the job in which it was claimed goes on, or comes to its end just now."""
    began = run_of(job)
    return began is not None and began == claim.run


def judged(claim: Claim, by: str, job: Job | None) -> Verdict:
    """About the right code. ``by``: the secret of whoever asks; ``job``: the launch's own, as the cluster has it."""
    if job is None:
        return Verdict.NO_JOB
    began = run_of(job)
    if began is None or job.phase is not Phase.RUNNING:
        return Verdict.NOT_RUNNING
    if claim.run is None or began > claim.run:
        return Verdict.GIVEN
    if began == claim.run and hmac.compare_digest(claim.by, digest(by)):
        return Verdict.AGAIN
    return Verdict.USED
