"""Which job is a launch's, and what is known of a launch by it: tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.models import Life
from daas_hub.core.slurm_jobs import Accounted, Job
from daas_hub.core.slurm_launches import (
    Ambiguous,
    Handles,
    Ref,
    find_job,
    forged,
    has_begun,
    missing,
    never_submitted,
    observation,
    own_runs,
    ref_of,
    takes_report,
    with_port,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REF = Ref("l1", "beam", "ada", 20001, 30001, "/home/ada", "/user/ada/", False, NOW)
JOB = Job(
    id=7, state="RUNNING", uid=20001, user="ada", partition="cpu", host="cpu1",
    submitted_at=NOW, started_at=NOW, expected_at=None, limit_s=None, elapsed_s=0, priority=1, reason="",
    cpus=1, memory_bytes=None, gpus=0, gpu_types=(), comment="daas:beam:l1",
)  # fmt: skip
ACCOUNTED = Accounted(
    id=7, state="FAILED", user="ada", submitted_at=NOW, started_at=NOW, ended_at=NOW, exit_code=3, signal=0,
    elapsed_s=1, suspended_s=0, cpus=1, memory_bytes=None, gpus=0, gpu_types=(), max_rss_bytes=None, node="cpu1",
)  # fmt: skip
RECORDED = replace(REF, job_id=7)


@pytest.mark.parametrize(
    ("ref", "job", "found"),
    [
        (REF, JOB, True),
        (RECORDED, JOB, True),
        # Somebody else's job with the launch's comment, and hers with another launch's or another hub's.
        (REF, replace(JOB, uid=20002), False),
        (RECORDED, replace(JOB, uid=20002), False),
        (REF, replace(JOB, comment="daas:beam:l2"), False),
        (REF, replace(JOB, comment="daas:other:l1"), False),
        (REF, replace(JOB, comment="daas:beam:l1 "), False),
        # Submitted before the launch was: she copied the comment of one of hers.
        (REF, replace(JOB, submitted_at=NOW - timedelta(minutes=1)), False),
        (REF, replace(JOB, submitted_at=NOW - timedelta(seconds=2)), True),
        # She changed the comment of the recorded one: it was submitted when the launch was.
        (RECORDED, replace(JOB, comment="mine"), True),
        # The controller has lost its state and gives ids again.
        (RECORDED, replace(JOB, comment="mine", submitted_at=NOW + timedelta(days=1)), False),
        (RECORDED, replace(JOB, comment="", submitted_at=NOW - timedelta(days=1)), False),
        # A requeue sets the time anew; somebody's program has written a comment of its own.
        (RECORDED, replace(JOB, comment="used 3%", submitted_at=NOW + timedelta(days=1), restarts=1), True),
        (RECORDED, replace(JOB, comment="daas:beam:l2", submitted_at=NOW + timedelta(days=1), restarts=1), False),
        (RECORDED, replace(JOB, comment="x", submitted_at=NOW - timedelta(days=1), restarts=1), False),
    ],
)
def test_a_job_is_the_launchs(ref: Ref, job: Job, found: bool) -> None:
    assert find_job({job.id: job}, ref) == (job if found else None)


def test_nodes_that_are_still_made_ready_use_up_no_time_to_answer() -> None:
    """A node that is switched on for a job may take longer than a server may."""
    assert [has_begun(replace(JOB, state=state)) for state in ("RUNNING", "CONFIGURING", "SUSPENDED")] == [
        True, False, False
    ]  # fmt: skip
    assert not has_begun(replace(JOB, state="PENDING", started_at=None))


def test_without_an_id_exactly_one_must_fit() -> None:
    twice = {7: JOB, 8: replace(JOB, id=8)}
    with pytest.raises(Ambiguous, match="jobs 7, 8 of ada"):
        find_job(twice, REF)
    assert find_job(twice, RECORDED) == JOB
    assert find_job({}, REF) is None


def test_the_same_handle_is_read_once() -> None:
    handles, first = Handles(), RECORDED.handle()
    ref = handles.ref(first)
    assert ref == RECORDED
    assert handles.ref(dict(first)) is ref
    assert handles.read == 1
    # Changed in place, another one of the same launch, and one that is none.
    first["port"] = 4000
    assert handles.ref(first).port == 4000
    assert handles.ref(RECORDED.handle()) == RECORDED
    assert handles.read == 3
    for wrong in ({}, {**first, "version": 99}):
        with pytest.raises(ValueError, match="not a handle"):
            handles.ref(wrong)


def test_a_handle_comes_back_as_it_was_and_others_are_refused() -> None:
    ref = replace(RECORDED, port=4000, port_of=1.5, node="cpu1", memory_bytes=3)
    assert ref_of(ref.handle()) == ref
    for wrong in ({}, {"backend": "slurm", "version": 99}, {"backend": "local", "version": 1}):
        with pytest.raises(ValueError, match="not a handle"):
            ref_of(wrong)
    with pytest.raises(ValueError, match="lacks or spoils"):
        ref_of({"backend": "slurm", "version": 1})


@pytest.mark.parametrize(
    ("state", "life"),
    [
        ("PENDING", Life.RUNNING),
        ("CONFIGURING", Life.RUNNING),
        ("RUNNING", Life.RUNNING),
        ("SUSPENDED", Life.RUNNING),
        ("REQUEUED", Life.RUNNING),
        ("REQUEUE_HOLD", Life.RUNNING),
        ("COMPLETING", Life.RUNNING),
        ("COMPLETED", Life.ENDED),
        ("CANCELLED", Life.ENDED),
        ("TIMEOUT", Life.ENDED),
        ("NODE_FAIL", Life.ENDED),
        ("REVOKED", Life.UNKNOWN),
        ("A_NEW_WORD", Life.UNKNOWN),
    ],
)
def test_what_a_state_says_of_a_server(state: str, life: Life) -> None:
    seen = observation(replace(JOB, state=state))
    assert seen.life is life
    assert seen.reason or state == "RUNNING"


def test_an_end_tells_status_and_signal() -> None:
    seen = observation(replace(JOB, state="FAILED"), [ACCOUNTED])
    assert (seen.exit_code, seen.reason) == (3, "it ended with an error with exit status 3")
    seen = observation(replace(JOB, state="FAILED"), [replace(ACCOUNTED, exit_code=0, signal=9)])
    assert seen.exit_code == 137
    assert seen.reason.endswith("it was ended by signal 9")


LATER = NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("accounted", "answers", "now", "life"),
    [
        # A controller that was killed forgets young jobs: only accounting, or time, makes it an end.
        (ACCOUNTED, False, NOW, Life.ENDED),
        (ACCOUNTED, True, NOW, Life.ENDED),
        (replace(ACCOUNTED, state="RUNNING"), False, LATER, Life.UNKNOWN),
        (replace(ACCOUNTED, state="RUNNING"), True, LATER, Life.RUNNING),
        (None, True, LATER, Life.RUNNING),
        # Somebody else's job of that id says nothing.
        (replace(ACCOUNTED, user="bob"), True, LATER, Life.RUNNING),
        (None, False, NOW + timedelta(minutes=1), Life.UNKNOWN),
        (None, False, LATER, Life.ENDED),
    ],
)
def test_a_job_that_the_controller_does_not_know(
    accounted: Accounted | None, answers: bool, now: datetime, life: Life
) -> None:
    runs = own_runs(RECORDED, [accounted] if accounted is not None else [])
    assert missing(RECORDED, runs, answers=answers, now=now).life is life


def test_a_submission_that_left_no_job() -> None:
    assert never_submitted(REF, over=True, now=NOW).life is Life.ENDED
    assert never_submitted(REF, over=False, now=NOW).life is Life.UNKNOWN
    assert never_submitted(REF, over=False, now=LATER).life is Life.ENDED


def test_a_port_is_taken_once_for_each_run_of_the_job() -> None:
    assert takes_report(RECORDED, None)
    known = with_port(RECORDED, 4000, JOB)
    assert (known.port, known.node) == (4000, "cpu1")
    assert takes_report(known, JOB) is False
    assert takes_report(known, None) is None
    again = replace(JOB, started_at=LATER, host="cpu2")
    assert takes_report(known, again)
    assert with_port(known, 5000, again).node == "cpu2"
    # A requeued one waits: nobody can report for it yet.
    for ref in (RECORDED, known):
        assert takes_report(ref, replace(JOB, state="PENDING", started_at=None)) is None


def test_who_only_says_that_it_is_a_launch_is_named() -> None:
    refs = {"l1": RECORDED}
    liars = [
        replace(JOB, id=8),
        replace(JOB, id=9, uid=20002),
        replace(JOB, id=10, comment="daas:beam:unheard-of"),
    ]
    honest = [JOB, replace(JOB, id=11, comment="daas:other:l1"), replace(liars[1], id=12, state="COMPLETED")]
    assert forged([*liars, *honest], refs, "beam") == liars
