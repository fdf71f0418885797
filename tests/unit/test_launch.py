"""The decision tables of core/launch.py, row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daas_hub.core.errors import IllegalMove
from daas_hub.core.launch import (
    CANCELLED,
    Begin,
    Poll,
    Started,
    Stop,
    decide_begin,
    decide_poll,
    decide_stop,
    start_failed,
    taken_over,
)
from daas_hub.core.models import LEGAL_MOVES, LaunchState, Life, Target, check_move

S = LaunchState
STARTING = (S.RESERVED, S.QUEUED, S.SUBMITTED)


@pytest.mark.parametrize(
    ("state", "life", "of_this_boot", "expected"),
    [
        (None, Life.UNKNOWN, True, Poll.ENDED),
        (S.ENDED, Life.UNKNOWN, False, Poll.ENDED),
        (S.RUNNING, Life.ENDED, True, Poll.ENDED),
        (S.RUNNING, Life.ENDED, False, Poll.ENDED),
        (S.RUNNING, Life.RUNNING, True, Poll.RUNNING),
        (S.RUNNING, Life.UNKNOWN, True, Poll.RUNNING),
        (S.RUNNING, Life.RUNNING, False, Poll.PROBE),
        (S.RUNNING, Life.UNKNOWN, False, Poll.PROBE),
        *[(s, Life.UNKNOWN, True, Poll.RUNNING) for s in STARTING],
        *[(s, Life.RUNNING, False, Poll.FORGET) for s in STARTING],
        (S.STOPPING, Life.RUNNING, True, Poll.RUNNING),
        (S.STOPPING, Life.UNKNOWN, False, Poll.FORGET),
    ],
)
def test_poll(state: LaunchState | None, life: Life, of_this_boot: bool, expected: Poll) -> None:
    assert decide_poll(state, life, of_this_boot=of_this_boot) is expected


@pytest.mark.parametrize(
    ("state", "started", "start_pending", "polling_began", "expected"),
    [
        (None, Started.FRESH, True, False, Stop.NOTHING),
        (S.ENDED, Started.FRESH, False, True, Stop.NOTHING),
        # the hub gave up on a start: time-out, proxy refused, server never answered
        (S.SUBMITTED, Started.FRESH, True, False, Stop.STOP),
        (S.RUNNING, Started.FRESH, True, True, Stop.STOP),
        (S.SUBMITTED, Started.ADOPTED, True, False, Stop.DETACH),
        (S.RUNNING, Started.ADOPTED, True, True, Stop.DETACH),
        # a person cancelled a start: the hub cancelled its future first
        (S.SUBMITTED, Started.FRESH, False, False, Stop.STOP),
        # the check at boot did not get an answer, or the user is blocked
        (S.RUNNING, Started.NOT_HERE, False, False, Stop.DETACH),
        # a person, the culler or a limit
        (S.RUNNING, Started.FRESH, False, True, Stop.STOP),
        (S.RUNNING, Started.ADOPTED, False, True, Stop.STOP),
        (S.RUNNING, Started.NOT_HERE, False, True, Stop.STOP),
        (S.STOPPING, Started.NOT_HERE, False, True, Stop.STOP),
    ],
)
def test_stop(
    state: LaunchState | None, started: Started, start_pending: bool, polling_began: bool, expected: Stop
) -> None:
    got = decide_stop(state, started=started, start_pending=start_pending, polling_began=polling_began)
    assert got is expected


@pytest.mark.parametrize(
    ("state", "target", "life", "has_handle", "of_this_boot", "expected"),
    [
        (None, Target.RUNNING, Life.UNKNOWN, False, False, Begin.FRESH),
        (S.ENDED, Target.STOPPED, Life.ENDED, True, True, Begin.FRESH),
        (S.RUNNING, Target.RUNNING, Life.RUNNING, True, False, Begin.ADOPT),
        (S.RUNNING, Target.RUNNING, Life.UNKNOWN, True, True, Begin.ADOPT),
        (S.SUBMITTED, Target.RUNNING, Life.RUNNING, True, False, Begin.ADOPT),
        (S.RUNNING, Target.RUNNING, Life.ENDED, True, False, Begin.SETTLE_FIRST),
        (S.STOPPING, Target.STOPPED, Life.ENDED, True, False, Begin.SETTLE_FIRST),
        (S.STOPPING, Target.STOPPED, Life.UNKNOWN, True, True, Begin.REFUSE_STOPPING),
        (S.RUNNING, Target.STOPPED, Life.RUNNING, True, True, Begin.REFUSE_STOPPING),
        (S.RESERVED, Target.RUNNING, Life.UNKNOWN, False, True, Begin.REFUSE_STARTING),
        (S.RESERVED, Target.RUNNING, Life.UNKNOWN, False, False, Begin.SEARCH_FIRST),
        (S.RESERVED, Target.STOPPED, Life.UNKNOWN, False, False, Begin.SEARCH_FIRST),
    ],
)
def test_begin(
    state: LaunchState | None, target: Target, life: Life, has_handle: bool, of_this_boot: bool, expected: Begin
) -> None:
    got = decide_begin(state, target, life=life, has_handle=has_handle, of_this_boot=of_this_boot)
    assert got is expected


def test_moves_are_total_and_end_in_ended() -> None:
    assert set(LEGAL_MOVES) == set(LaunchState)
    assert not LEGAL_MOVES[S.ENDED]
    for state in set(LaunchState) - {S.ENDED}:
        assert S.ENDED in LEGAL_MOVES[state]
        check_move(state, state)


def test_illegal_move_is_refused() -> None:
    with pytest.raises(IllegalMove, match="stopping to running"):
        check_move(S.STOPPING, S.RUNNING)


@pytest.mark.parametrize(
    ("state", "started", "reason", "by", "failed"),
    [
        (S.ENDED, False, "no node has 2 GPUs free", "hub", True),
        (S.ENDED, False, "the hub was interrupted while starting it", "", True),
        (S.ENDED, False, CANCELLED, "hub", False),
        (S.ENDED, False, "idle", "culler", False),
        (S.ENDED, False, "maintenance", "admin:olga", False),
        (S.ENDED, True, "out of memory", "", False),
        (S.STOPPING, False, "no node has 2 GPUs free", "hub", False),
    ],
)
def test_a_start_has_failed_only_by_itself(state: S, started: bool, reason: str, by: str, failed: bool) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) if started else None
    assert start_failed(state, at, reason, by) is failed


@pytest.mark.parametrize(
    ("state", "chose_other", "expected"),
    [
        (S.RUNNING, False, "Found your running server (Small)"),
        (
            S.RUNNING,
            True,
            "Found your running server (Small). What you chose now was not taken: to have it, stop this server, then "
            "start again.",
        ),
        (S.SUBMITTED, False, "A start of this server (Small), begun at 08:05 UTC, was not over: it goes on"),
        (
            S.SUBMITTED,
            True,
            "A start of this server (Small), begun at 08:05 UTC, was not over: it goes on. What you chose now was not "
            "taken: to have it, cancel this start, then start again.",
        ),
    ],
)
def test_what_a_start_that_found_another_says(state: LaunchState, chose_other: bool, expected: str) -> None:
    begun = datetime(2026, 1, 1, 8, 5, tzinfo=UTC)
    assert taken_over(state, begun, "Small", chose_other=chose_other) == expected
