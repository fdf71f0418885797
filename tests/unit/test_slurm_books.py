"""What SLURM gives and has given, out of jobs and accounting: tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from daas_hub.core.grants import Given, Grant, Run
from daas_hub.core.slurm_books import booked, grant_of
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import missing, observation, own_runs
from tests.unit.test_slurm_launches import ACCOUNTED, JOB, NOW, RECORDED

LATER = NOW + timedelta(hours=2)
RUNS = replace(JOB, cpus=8, memory_bytes=2**30, gpus=1, limit_s=7200, ends_at=LATER)
EIGHT = Given(8, 2**30, 1)
OVER = replace(RUNS, state="TIMEOUT", elapsed_s=7100)
BOOKED = replace(ACCOUNTED, state="TIMEOUT", ended_at=LATER, elapsed_s=7000, cpus=8, memory_bytes=2**30, gpus=1)
AGAIN = replace(BOOKED, submitted_at=LATER, started_at=LATER, ended_at=LATER + timedelta(hours=1), elapsed_s=3600)


@pytest.mark.parametrize(
    ("job", "grant"),
    [
        (RUNS, Grant(EIGHT, NOW, LATER)),
        (replace(RUNS, state="CONFIGURING"), Grant(EIGHT, NOW, LATER)),
        (replace(RUNS, state="COMPLETING"), Grant(EIGHT, NOW)),
        # Stopped by a signal it keeps what it has, and SLURM's own clock goes on.
        (replace(RUNS, state="STOPPED", ends_at=None), Grant(EIGHT, NOW)),
        (replace(RUNS, state="SUSPENDED", ends_at=None), Grant(None)),
        (replace(RUNS, state="PENDING", started_at=None, ends_at=None), Grant(None)),
        (replace(RUNS, state="REQUEUED", started_at=None, ends_at=None), Grant(None)),
        (replace(RUNS, cpus=0, memory_bytes=None, gpus=0), Grant(Given(), NOW, LATER)),
        (replace(RUNS, state="SOMETHING"), None),
        (OVER, None),
    ],
)
def test_what_a_job_has(job: Job, grant: Grant | None) -> None:
    assert grant_of(job) == grant
    assert observation(job).grant == grant


def test_accounting_is_right_as_soon_as_it_has_the_end() -> None:
    by_job = booked(OVER, [])
    assert (by_job.runs, by_job.source, by_job.final) == ((Run(EIGHT, NOW, LATER, 7100),), "squeue", False)
    assert booked(OVER, [replace(BOOKED, state="RUNNING", ended_at=None)]) == by_job
    # The last run that it has is not the last one: the job runs again since.
    assert booked(replace(OVER, started_at=LATER), [BOOKED]).final is False
    exact = booked(OVER, [BOOKED])
    assert (exact.runs, exact.source, exact.final) == ((Run(EIGHT, NOW, LATER, 7000),), "sacct", True)
    first = replace(BOOKED, state="REQUEUED")
    assert booked(None, [first]).final is False, "it waits to run again"
    both = booked(None, [first, AGAIN])
    assert (both.final, [run.counted_s for run in both.runs]) == (True, [7000, 3600])


def test_a_job_that_never_ran_has_used_nothing() -> None:
    cancelled = replace(BOOKED, state="CANCELLED", started_at=None, elapsed_s=0)
    assert (booked(None, [cancelled]).runs, booked(None, [cancelled]).final) == ((), True)
    never = booked(replace(JOB, state="CANCELLED", started_at=NOW, ends_at=NOW), [])
    assert ([run.counted_s for run in never.runs], never.final) == ([0], False)


@pytest.mark.parametrize(
    ("state", "reason", "time_over"),
    [
        ("TIMEOUT", "its time of 2 h on SLURM was over", True),
        ("CANCELLED", "it was cancelled", False),
        ("PREEMPTED", "it was ended to make room for a job with precedence", False),
    ],
)
def test_an_end_in_words(state: str, reason: str, time_over: bool) -> None:
    seen = observation(replace(OVER, state=state), [BOOKED])
    assert (seen.reason, seen.time_over) == (reason, time_over)


def test_an_end_that_only_accounting_knows() -> None:
    seen = missing(RECORDED, [BOOKED], answers=False, now=LATER)
    assert (seen.reason, seen.time_over) == ("its time on SLURM was over", True)
    assert seen.booked is not None
    assert seen.booked.final
    forgotten = missing(RECORDED, [], answers=False, now=LATER)
    assert forgotten.booked is not None
    assert not forgotten.booked.final


def test_runs_of_another_job_with_the_same_id_are_not_the_launchs() -> None:
    other = replace(BOOKED, user="bob")
    older = replace(BOOKED, submitted_at=NOW - timedelta(days=30))
    assert own_runs(RECORDED, [older, other, BOOKED, AGAIN]) == (BOOKED, AGAIN)
