"""What SLURM gives and has given a launch, out of its jobs and of its accounting. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from .grants import Booked, Given, Grant, Run
from .slurm_jobs import Accounted, Job, Phase

SAME_RUN = timedelta(seconds=2)
"""A run's begin as the controller tells it and as accounting has it differ by no more."""


def grant_of(job: Job) -> Grant | None:
    """What the job has now; None where its state tells nothing of that."""
    if job.phase is Phase.WAITING or job.state == "SUSPENDED":
        return Grant(None)
    if job.phase in (Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING):
        return Grant(given(job), job.started_at, job.ends_at if job.phase is Phase.RUNNING else None)
    return None


def given(one: Job | Accounted) -> Given:
    """What was allocated. Where nothing is told at all, nothing is known."""
    return Given(one.cpus or None, one.memory_bytes, one.gpus if one.cpus else None)


def booked(job: Job | None, runs: Sequence[Accounted]) -> Booked:
    """What a job that has ended has used. ``job``: as the controller lists it; ``runs``: as accounting has it.

    Accounting is right as soon as it has the end of the job's last run; until then the job itself counts.
    """
    if runs and all(run.ended_at is not None for run in runs) and runs[-1].phase is Phase.ENDED:
        last = runs[-1].started_at
        if job is None or job.started_at is None or last is None or abs(job.started_at - last) <= SAME_RUN:
            found = [_run(given(run), run.started_at, run.ended_at, run.elapsed_s) for run in runs]
            return Booked(tuple(one for one in found if one is not None), "sacct", final=True)
    if job is None:
        return Booked((), "squeue", final=False)
    own = _run(given(job), job.started_at, job.ends_at, job.elapsed_s)
    return Booked((own,) if own is not None else (), "squeue", final=False)


def _run(what: Given, from_at: datetime | None, to_at: datetime | None, counted_s: int) -> Run | None:
    if from_at is None or to_at is None or to_at < from_at:
        return None
    return Run(what, from_at, to_at, counted_s)
