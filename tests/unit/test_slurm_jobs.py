"""SLURM's jobs: every state has a phase, no text becomes another field, and what is not whole is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daas_hub.core.slurm_jobs import (
    FIELDS,
    PHASES,
    SACCT_FIELDS,
    Job,
    Phase,
    Tres,
    comment_of,
    expected_by_test,
    launch_of,
    parse_accounted,
    parse_duration,
    parse_jobs,
    parse_runs,
    parse_size,
    parse_time,
    parse_tres,
    phase,
    position,
    squeue_format,
)

MARK = "\x1f0123456789abcdef"
SAID = {
    "JobID": "7", "State": "RUNNING", "UserID": "20001", "UserName": "ada", "Account": "lab", "Partition": "gpu",
    "QOS": "normal", "BatchHost": "gpu1", "NodeList": "gpu[1-2]", "SubmitTime": "1795315129",
    "StartTime": "1795315130", "EndTime": "1795401530", "TimeLimit": "1-00:00:00", "TimeUsed": "5:03",
    "PriorityLong": "4294901758",
    "tres-alloc": "cpu=4,mem=2048M,node=1,billing=4,gres/gpu=2,gres/gpu:a100=2", "RestartCnt": "1",
    "Reservation": "(null)", "Reason": "None", "Comment": "daas:hub:abc",
}  # fmt: skip


def printed(**said: str) -> str:
    values = {**SAID, **{name.replace("_", "-"): value for name, value in said.items()}}
    return f"{MARK}|".join(values[name] for name in FIELDS) + f"{MARK}.\n"


def a_job(**said: str) -> Job:
    (job,) = parse_jobs(printed(**said), MARK).values()
    return job


def test_a_running_job() -> None:
    assert a_job() == Job(
        id=7, state="RUNNING", uid=20001, user="ada", account="lab", partition="gpu", qos="normal", host="gpu1",
        nodes="gpu[1-2]", submitted_at=datetime.fromtimestamp(1795315129, UTC),
        started_at=datetime.fromtimestamp(1795315130, UTC), expected_at=None, limit_s=86400, elapsed_s=303,
        priority=4294901758, reason="", cpus=4, memory_bytes=2**31, gpus=2, gpu_types=(("a100", 2),), restarts=1,
        reservation="", comment="daas:hub:abc", ends_at=datetime.fromtimestamp(1795401530, UTC),
    )  # fmt: skip
    assert a_job().phase is Phase.RUNNING


def test_a_waiting_job_has_no_host_and_a_start_that_is_expected() -> None:
    job = a_job(State="PENDING", Reason="Resources", TimeUsed="0:00", BatchHost="n/a")
    assert (job.host, job.nodes, job.started_at, job.reason) == ("", "", None, "Resources")
    assert job.expected_at == datetime.fromtimestamp(1795315130, UTC)
    assert a_job(State="PENDING", StartTime="N/A").expected_at is None
    # A requeued one still names the node that it had.
    assert a_job(State="REQUEUED").host == ""


def test_when_a_job_ends_is_told_where_it_is_meant() -> None:
    for state in ("RUNNING", "COMPLETING", "TIMEOUT", "CANCELLED"):
        assert a_job(State=state).ends_at == datetime.fromtimestamp(1795401530, UTC)
    # Of one without a walltime SLURM says a year; of one that is suspended what was planned before.
    assert a_job(TimeLimit="UNLIMITED").ends_at is None
    assert a_job(State="SUSPENDED").ends_at is None
    assert a_job(State="PENDING").ends_at is None
    assert a_job(State="CANCELLED", TimeLimit="UNLIMITED").ends_at is not None


@given(st.text(max_size=300))
@example("a|b\nc\x1f,%i")
@example(f"{MARK[:-1]}|x\n")
@example("\x1f.\n7\x1f|RUNNING")
@example("x" * 100_000)
def test_no_comment_shifts_a_field(comment: str) -> None:
    first, second = parse_jobs(printed(Comment=comment, Reason=comment) + printed(JobID="8"), MARK).values()
    assert first.comment == ("" if comment == "(null)" else comment)
    assert replace(first, comment="", reason="") == replace(a_job(), comment="", reason="")
    assert second == a_job(JobID="8")


@given(st.integers(min_value=1, max_value=len(printed()) - 1))
def test_what_is_cut_off_is_no_answer(length: int) -> None:
    with pytest.raises(ValueError, match="middle of one"):
        parse_jobs(printed() + printed(JobID="8")[:length], MARK)


def test_a_thousand_jobs() -> None:
    jobs = parse_jobs("".join(printed(JobID=str(number)) for number in range(1, 1001)), MARK)
    assert list(jobs) == list(range(1, 1001))
    assert replace(jobs[1000], id=7) == a_job()


def test_nothing_is_no_job() -> None:
    assert parse_jobs("", MARK) == {}


@pytest.mark.parametrize(
    "said",
    [
        {"JobID": "7_[1-3]"},
        {"SubmitTime": "2026-11-22T02:39:28"},
        {"SubmitTime": "N/A"},
        {"TimeLimit": "soon"},
        {"tres_alloc": "cpu=many"},
        {"PriorityLong": ""},
    ],
)
def test_what_is_not_understood_is_no_answer(said: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_jobs(printed() + printed(**said), MARK)


def test_the_format_marks_each_end() -> None:
    words = squeue_format(MARK).split(",")
    assert words[0] == f"JobID:0{MARK}|"
    assert words[-1] == f"Comment:0{MARK}."
    assert len(words) == len(FIELDS)


STATES = """
BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING PREEMPTED RUNNING
RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED
TIMEOUT EXPEDITING
"""
"""JOB STATE CODES of squeue's manual, 22.05 to 25.11."""


def test_every_state_of_the_manual_has_a_phase() -> None:
    assert set(STATES.split()) == set(PHASES)


@pytest.mark.parametrize("state", ["", "?", "pending", "FINISHED", "CANCELLED by 0"])
def test_a_word_that_nobody_knows_has_not_ended(state: str) -> None:
    assert phase(state) is Phase.UNKNOWN


def test_what_runs_elsewhere_has_not_ended() -> None:
    assert phase("REVOKED") is Phase.UNKNOWN


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0:00", 0), ("5:03", 303), ("1:00:00", 3600), ("10-01:02:03", 867723), ("00:02.500", 2), ("UNLIMITED", None),
     ("NOT_SET", None), ("INVALID", None), ("N/A", None)],
)  # fmt: skip
def test_durations(said: str, seconds: int | None) -> None:
    assert parse_duration(said) == seconds


def test_times() -> None:
    assert parse_time("N/A") is None
    assert parse_time("0") is None
    with pytest.raises(ValueError, match="SLURM_TIME_FORMAT"):
        parse_time("2026-11-22T02:39:28")


@pytest.mark.parametrize(
    ("said", "tres"),
    [
        ("", Tres()),
        ("N/A", Tres()),
        ("cpu=1,mem=100M,node=1,billing=1", Tres(1, 100 * 2**20)),
        ("cpu=2,mem=1.50G,gres/gpu:a100=1,gres/gpu:h100=2", Tres(2, 3 * 2**29, 3, (("a100", 1), ("h100", 2)))),
        ("cpu=2,gres/gpu=3,gres/gpu:a100=1,gres/shard=7,energy=9,bb/x=1G", Tres(2, None, 3, (("a100", 1),))),
        ("cpu=8,mem=2T,license/a=1", Tres(8, 2 * 2**40)),
    ],
)
def test_trackable_resources(said: str, tres: Tres) -> None:
    assert parse_tres(said) == tres


@pytest.mark.parametrize("bad", ["", "M", "-1M", "1X", "1M\n"])
def test_sizes_that_are_none(bad: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(bad)


def test_comments_of_ours() -> None:
    assert launch_of(comment_of("hub", "0a1b"), "hub") == "0a1b"
    others = [
        "",
        "daas:hub",
        "daas:hub:",
        "daas:hub2:0a1b",
        "daas:hub:a b",
        "daas:hub:a\nb",
        "daas:hub:a:b",
        "daas:hub:a\n",
    ]
    assert [launch_of(comment, "hub") for comment in others] == [None] * len(others)


def test_positions_are_by_priority_in_the_same_partition() -> None:
    def waiting(number: int, priority: int, partition: str = "gpu", state: str = "PENDING") -> Job:
        return a_job(JobID=str(number), PriorityLong=str(priority), Partition=partition, State=state)

    mine = waiting(5, 100)
    jobs = [mine, waiting(1, 200), waiting(2, 100), waiting(6, 100), waiting(3, 0), waiting(4, 300, "cpu")]
    jobs += [waiting(7, 400, "cpu,gpu"), waiting(8, 500, state="RUNNING"), waiting(9, 500, state="COMPLETED")]
    assert position(jobs, mine) == 4
    assert position({job.id: job for job in jobs}, mine) == 4
    assert position(jobs, waiting(3, 0)) is None
    assert position(jobs, jobs[-1]) is None


def row(**said: str) -> str:
    values = {
        "JobIDRaw": "7", "State": "CANCELLED by 20001", "User": "ada", "Submit": "1795315129", "Start": "1795315130",
        "End": "1795315190", "ExitCode": "0:15", "ElapsedRaw": "50", "Suspended": "00:00:10",
        "AllocTRES": "billing=1,cpu=1,gres/gpu=1,mem=100M,node=1", "MaxRSS": "", "NodeList": "gpu1",
    }  # fmt: skip
    return "|".join({**values, **said}[name] for name in SACCT_FIELDS) + "\n"


def test_accounted() -> None:
    text = row() + row(JobIDRaw="7.batch", MaxRSS="1500K", User="") + row(JobIDRaw="7.extern", MaxRSS="512", User="")
    ((number, said),) = parse_accounted(text).items()
    assert (number, said.state, said.user, said.exit_code, said.signal) == (7, "CANCELLED", "ada", 0, 15)
    assert (said.elapsed_s, said.suspended_s, said.cpus, said.gpus) == (50, 10, 1, 1)
    assert (said.memory_bytes, said.max_rss_bytes, said.node) == (100 * 2**20, 1500 * 1024, "gpu1")
    assert said.phase is Phase.ENDED


def test_runs_of_a_requeued_job() -> None:
    first = row(State="REQUEUED", ElapsedRaw="5") + row(JobIDRaw="7.batch", MaxRSS="4096", State="CANCELLED")
    text = first + row(JobIDRaw="8", State="RUNNING") + row(State="COMPLETED") + row(JobIDRaw="7.0", MaxRSS="1K")
    runs = parse_runs(text)
    assert [(one.state, one.elapsed_s, one.max_rss_bytes) for one in runs[7]] == [
        ("REQUEUED", 5, 4096),
        ("COMPLETED", 50, 1024),
    ]
    assert [one.max_rss_bytes for one in runs[8]] == [None]
    assert parse_accounted(text) == {7: runs[7][1], 8: runs[8][0]}


def test_accounted_of_what_never_started() -> None:
    text = row(State="PENDING", Start="Unknown", End="Unknown", ExitCode="0:0", NodeList="None assigned", AllocTRES="")
    (said,) = parse_accounted(text).values()
    assert (said.started_at, said.ended_at, said.node, said.cpus, said.max_rss_bytes) == (None, None, "", 0, None)
    with pytest.raises(ValueError, match=r"\S"):
        parse_accounted("7|RUNNING\n")
    assert parse_accounted(row(JobIDRaw="7.batch", MaxRSS="1K")) == {}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            "sbatch: Job 12 to start at 2026-03-02T13:05:00 using 1 processors on nodes cpu1 in partition cpu",
            datetime(2026, 3, 2, 12, 5, tzinfo=UTC),
        ),
        ("sbatch: Job 12 to start at 2026-13-02T13:05:00 using", None),
        ("allocation failure: Requested node configuration is not available", None),
        ("", None),
    ],
)
def test_a_test_only_submission_tells_a_start_in_its_machines_time(said: str, found: datetime | None) -> None:
    assert expected_by_test(said, timezone(timedelta(hours=1))) == found
