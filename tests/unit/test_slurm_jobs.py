"""SLURM's jobs: every state has a phase, and what accounting prints is read with all of its units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from daas_hub.core.slurm_jobs import (
    PHASES,
    SACCT_FIELDS,
    Phase,
    Tres,
    comment_of,
    expected_by_test,
    launch_of,
    parse_accounted,
    parse_duration,
    parse_runs,
    parse_size,
    parse_time,
    parse_tres,
    phase,
)

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
