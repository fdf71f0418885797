"""squeue's list of jobs: no text becomes another field, what is not whole is refused, what is as it was is not read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daas_hub.core.slurm_jobs import Job, Phase, position
from daas_hub.core.slurm_queue import CHANGES, FIELDS, NAMES, JobReader

MARK, BETWEEN = "\x1f0123456789abcdef", "\x1f76543210"
SAID = {
    "JobID": "7", "State": "RUNNING", "UserID": "20001", "UserName": "ada", "Partition": "gpu", "BatchHost": "gpu1",
    "SubmitTime": "1795315129",
    "StartTime": "1795315130", "EndTime": "1795401530", "TimeLimit": "1-00:00:00", "TimeUsed": "5:03",
    "PriorityLong": "4294901758",
    "tres-alloc": "cpu=4,mem=2048M,node=1,billing=4,gres/gpu=2,gres/gpu:a100=2",
    "RestartCnt": "1", "Reason": "None", "Comment": "daas:hub:abc",
}  # fmt: skip


def printed(mark: str = MARK, **said: str) -> str:
    values = {**SAID, **{name.replace("_", "-"): value for name, value in said.items()}}
    names = BETWEEN.join(values[name] for name in NAMES)
    return f"{mark}|".join([values[CHANGES], names, values["Reason"], values["Comment"]]) + f"{mark}.\n"


def a_job(**said: str) -> Job:
    (job,) = JobReader(BETWEEN).jobs(printed(**said), MARK).values()
    return job


def test_a_running_job() -> None:
    assert a_job() == Job(
        id=7, state="RUNNING", uid=20001, user="ada", partition="gpu", host="gpu1",
        submitted_at=datetime.fromtimestamp(1795315129, UTC), started_at=datetime.fromtimestamp(1795315130, UTC),
        expected_at=None, limit_s=86400, elapsed_s=0, priority=4294901758, reason="", cpus=4, memory_bytes=2**31,
        gpus=2, gpu_types=(("a100", 2),), comment="daas:hub:abc", ends_at=datetime.fromtimestamp(1795401530, UTC),
        restarts=1,
    )  # fmt: skip
    assert a_job().phase is Phase.RUNNING


def test_a_waiting_job_has_no_host_and_a_start_that_is_expected() -> None:
    job = a_job(State="PENDING", Reason="Resources", TimeUsed="0:00", BatchHost="n/a")
    assert (job.host, job.started_at, job.reason) == ("", None, "Resources")
    assert job.expected_at == datetime.fromtimestamp(1795315130, UTC)
    assert a_job(State="PENDING", StartTime="N/A").expected_at is None
    # What `--begin=now+500000weeks` makes of it is beyond every calendar.
    for never in ("304224839357", "-86400", "1298822382793357", "0"):
        assert a_job(State="PENDING", StartTime=never) == replace(job, expected_at=None, reason="")
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
    first, second = (
        JobReader(BETWEEN).jobs(printed(Comment=comment, Reason=comment) + printed(JobID="8"), MARK).values()
    )
    assert first.comment == ("" if comment == "(null)" else comment)
    assert replace(first, comment="", reason="") == replace(a_job(), comment="", reason="")
    assert second == a_job(JobID="8")


@given(st.integers(min_value=1, max_value=len(printed()) - 1))
def test_what_is_cut_off_is_no_answer(length: int) -> None:
    with pytest.raises(ValueError, match="middle of one"):
        JobReader(BETWEEN).jobs(printed() + printed(JobID="8")[:length], MARK)


def test_a_thousand_jobs() -> None:
    jobs = JobReader(BETWEEN).jobs("".join(printed(JobID=str(number)) for number in range(1, 1001)), MARK)
    assert list(jobs) == list(range(1, 1001))
    assert replace(jobs[1000], id=7) == a_job()


def test_nothing_is_no_job() -> None:
    assert JobReader(BETWEEN).jobs("", MARK) == {}


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
        JobReader(BETWEEN).jobs(printed() + printed(**said), MARK)


def test_the_format_marks_each_end() -> None:
    words = JobReader(BETWEEN).format(MARK).split(",")
    assert [word.partition(":")[0] for word in words] == list(FIELDS)
    whole = [f"{CHANGES}:0{MARK}|", f"{NAMES[-1]}:0{MARK}|", f"Reason:0{MARK}|", f"Comment:0{MARK}."]
    assert [word for word in words if MARK in word] == whole
    assert {word.partition(":0")[2] for word in words if word not in whole} == {BETWEEN}


def test_a_job_of_which_the_same_is_said_is_not_read_again() -> None:
    """Whatever the mark, and however long it has run by now."""
    reader = JobReader(BETWEEN)
    first = reader.jobs("".join(printed(JobID=str(number)) for number in range(1, 1001)), MARK)
    assert reader.read == 1000
    other = "\x1ffedcba9876543210"
    changed = {
        8: {"State": "COMPLETING"}, 9: {"EndTime": "1795401531"}, 10: {"Reason": "b"}, 11: {"Comment": "c"}
    }  # fmt: skip
    lines = [printed(other, JobID=str(number), TimeUsed="5:05", **changed.get(number, {})) for number in range(2, 1002)]
    second = reader.jobs("".join(lines), other)
    # Those four, and one that is new.
    assert reader.read == 1005
    assert all(second[number] is first[number] for number in range(2, 1001) if number not in changed)
    assert (second[8].phase, second[10].reason, second[11].comment) == (Phase.ENDING, "b", "c")
    assert second[9].ends_at != first[9].ends_at
    # It knows the list before only: the same as in an older one is read again.
    assert reader.jobs(printed(JobID="1"), MARK) == {1: first[1]}
    assert reader.read == 1006


def test_how_long_it_ran_is_told_at_its_end() -> None:
    reader = JobReader(BETWEEN)
    for used, seconds in (("5:03", 303), ("5:03", 303), ("5:04", 304)):
        (job,) = reader.jobs(printed(State="COMPLETED", TimeUsed=used), MARK).values()
        assert job.elapsed_s == seconds
    assert reader.read == 2


def test_a_list_that_cannot_be_read_changes_nothing() -> None:
    reader = JobReader(BETWEEN)
    (job,) = reader.jobs(printed(), MARK).values()
    with pytest.raises(ValueError, match="fields"):
        # A name with what ends a field.
        reader.jobs(printed() + printed(JobID="8", Partition=f"a{BETWEEN}b"), MARK)
    assert reader.jobs(printed(), MARK)[7] is job


def test_positions_are_by_priority_in_the_same_partition() -> None:
    def waiting(
        number: int, priority: int, partition: str = "gpu", state: str = "PENDING", reason: str = "Priority"
    ) -> Job:
        return a_job(JobID=str(number), PriorityLong=str(priority), Partition=partition, State=state, Reason=reason)

    mine = waiting(5, 100)
    jobs = [mine, waiting(1, 200), waiting(2, 100), waiting(6, 100), waiting(3, 0), waiting(4, 300, "cpu")]
    jobs += [waiting(7, 400, "cpu,gpu"), waiting(8, 500, state="RUNNING"), waiting(9, 500, state="COMPLETED")]
    # Others go past these meanwhile.
    jobs += [waiting(number, 600, reason=why) for number, why in enumerate(("BeginTime", "Dependency"), 10)]
    assert position(jobs, mine) == 4
    assert position({job.id: job for job in jobs}, mine) == 4
    assert position(jobs, waiting(3, 0)) is None
    assert position(jobs, jobs[-3]) is None
