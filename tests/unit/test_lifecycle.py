"""The culler's rules and verdicts as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.core.lifecycle import (
    App,
    Kernel,
    Report,
    Rule,
    announce,
    first_look,
    judge,
    read_rules,
    rule_for,
    was_stopped,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So many seconds after the server began to run."""
    return START + timedelta(seconds=seconds)


def report(
    kernels: list[tuple[str, float | None]] | None = None,
    terminals: tuple[float, ...] = (),
    api: float | None = None,
    apps: tuple[float, ...] = (),
) -> Report:
    return Report(
        kernels=tuple(Kernel(state, None if s is None else at(s)) for state, s in kernels or []),
        terminals=tuple(map(at, terminals)),
        api_activity=None if api is None else at(api),
        apps=tuple(map(at, apps)),
    )


IDLE = Rule("Basic", idle_after_s=120)
TABS = Rule("Basic", idle_after_s=120, count_open_tabs=True)
AGE = Rule("Basic", max_age_s=600)
BOTH = Rule("Basic", idle_after_s=120, max_age_s=600)


@pytest.mark.parametrize(
    ("rule", "said", "now", "stop", "look"),
    [
        # nothing was ever opened: idle from the start on
        (IDLE, report(), 119, False, 120),
        (IDLE, report(), 120, True, None),
        # an idle kernel: its last message counts
        (IDLE, report([("idle", 60)]), 150, False, 180),
        (IDLE, report([("idle", 60)]), 180, True, None),
        # of several the newest
        (IDLE, report([("idle", 10), ("idle", 90)], terminals=(20,)), 200, False, 210),
        # a busy kernel is use, however long it has been silent
        (IDLE, report([("busy", 0)]), 100_000, False, 100_060),
        (IDLE, report([("idle", 0), ("busy", 0)]), 500, False, 560),
        # a state nobody has heard of is use
        (IDLE, report([("unknown", 0)]), 500, False, 560),
        # dead and ever-starting kernels keep nothing alive
        (IDLE, report([("dead", 0), ("starting", 0)]), 500, True, None),
        (IDLE, report([("idle", None)]), 500, True, None),
        # terminals
        (IDLE, report(terminals=(100,)), 200, False, 220),
        (IDLE, report(terminals=(100,)), 220, True, None),
        # an open tab polls: it moves the API's time only, which counts where a rule says so
        (IDLE, report(api=499), 500, True, None),
        (TABS, report(api=499), 500, False, 619),
        (TABS, report(api=300), 500, True, None),
        # configured apps
        (IDLE, report(apps=(450,)), 500, False, 570),
        # the server's clock runs ahead: not later than now
        (IDLE, report([("idle", 9_000)]), 500, False, 620),
        # a kernel's time from before the start (a clock set back): the start counts
        (IDLE, report([("idle", -5_000)]), 60, False, 120),
        # it could not be asked: never idle
        (IDLE, None, 100_000, False, 100_060),
        (Rule("r", idle_after_s=5), None, 100, False, 105),
        # max_age holds whatever the server does or does not say
        (AGE, None, 599, False, 600),
        (AGE, None, 600, True, None),
        (AGE, report([("busy", 600)]), 600, True, None),
        (BOTH, None, 600, True, None),
        (BOTH, report([("idle", 550)]), 560, False, 600),
        (BOTH, report([("busy", 550)]), 580, False, 600),
        # an exemption
        (Rule("never"), None, 10**8, False, None),
    ],
)
def test_verdict(rule: Rule, said: Report | None, now: float, stop: bool, look: float | None) -> None:
    verdict = judge(rule, started_at=START, report=said, now=at(now))
    assert (verdict.stop, verdict.look_at) == (stop, None if look is None else at(look))


def test_a_person_is_told_how_long_and_by_which_rule() -> None:
    assert judge(IDLE, started_at=START, report=report(), now=at(125)).reason == "idle for 2 min (rule Basic)"
    assert judge(AGE, started_at=START, report=None, now=at(900)).reason == (
        "ran for 10 min, the longest allowed (rule Basic)"
    )


@pytest.mark.parametrize(
    ("rule", "first"),
    [(None, None), (Rule("never"), None), (IDLE, 120), (AGE, 600), (BOTH, 120)],
)
def test_nobody_is_asked_before_the_first_look(rule: Rule | None, first: float | None) -> None:
    assert first_look(rule, started_at=START) == (None if first is None else at(first))


RULES = read_rules(
    [
        {"name": "staff", "users": ["ada"], "idle_after_s": None},
        {"name": "gpu students", "profiles": ["gpu"], "groups": ["students"], "idle_after_s": 600},
        {"name": "gpu", "profiles": ["gpu"], "idle_after_s": 1200, "max_age_s": 86400},
        {"name": "rest", "idle_after_s": 3600},
    ]
)


@pytest.mark.parametrize(
    ("user", "profile", "groups", "name"),
    [
        ("ada", "gpu", ["students"], "staff"),
        ("bob", "gpu", ["students", "x"], "gpu students"),
        ("bob", "gpu", [], "gpu"),
        ("bob", "basic", ["students"], "rest"),
    ],
)
def test_the_first_match_wins(user: str, profile: str, groups: list[str], name: str) -> None:
    found = rule_for(RULES, profile=profile, groups=groups, user=user)
    assert found is not None
    assert found.name == name


def test_without_a_match_a_server_is_left_alone() -> None:
    assert rule_for(RULES[:3], profile="basic", groups=(), user="bob") is None


def test_a_rule_as_it_is_written() -> None:
    [rule] = read_rules([{"idle_after_s": 60, "count_open_tabs": True, "apps": [{"path": "/code/x", "field": "t"}]}])
    assert rule == Rule("rule 1", idle_after_s=60.0, count_open_tabs=True, apps=(App("code/x", "t"),))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({}, "must be a list"),
        (["x"], r"rules\[0\] must be a dict"),
        ([{"idle_after": 5}], "unknown key 'idle_after'; known are name"),
        ([{"idle_after_s": "1h"}], r"rules\[0\].idle_after_s is '1h'; give seconds"),
        ([{"idle_after_s": True}], "idle_after_s is True"),
        ([{"idle_after_s": 0}], "at least 1"),
        ([{"max_age_s": -3}], "max_age_s is -3"),
        ([{"max_age_s": float("nan")}], "max_age_s is nan"),
        ([{"max_age_s": float("inf")}], "max_age_s is inf"),
        ([{}, {"profiles": "basic"}], r"rules\[1\].profiles is 'basic'; give a list"),
        ([{"users": []}], "leave it out for any"),
        ([{"groups": [1]}], r"groups is \[1\]"),
        ([{"name": ""}], "name is ''"),
        ([{"name": "a"}, {"name": "a"}], "two rules named 'a'"),
        ([{"count_open_tabs": "no"}], "count_open_tabs is 'no'"),
        ([{"apps": "x"}], "apps must be a list"),
        ([{"apps": [{"path": "x"}]}], r"apps\[0\]"),
        ([{"apps": [{"path": "../../hub", "field": "t"}]}], "below the server"),
        ([{"apps": [{"path": "http://x/y", "field": "t"}]}], "below the server"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(raw: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_rules(raw)


# ---------------------------------------------------------------- walltime


@pytest.mark.parametrize(
    ("ends_at", "now", "told"),
    [
        (7200, 7200 - 901, False),
        (7200, 7200 - 900, True),
        # Longer than the lead, the notice stands; a server may take a moment to end.
        (7200, 7230, True),
        # Shorter than the lead from the first moment on.
        (300, 0, True),
        # Unlimited, or suspended: what was said before is taken back.
        (None, 7000, False),
    ],
)
def test_the_end_of_a_walltime_is_told_in_time(ends_at: float | None, now: float, told: bool) -> None:
    end = None if ends_at is None else at(ends_at)
    said = announce("", "slurm", ends_at=end, now=at(now), lead_s=900)
    assert bool(said.text) is told
    assert said.text.startswith(said.like) or not told


def test_the_end_of_a_walltime_in_words() -> None:
    said = announce("lab", "slurm", ends_at=at(7200), now=at(7000), lead_s=900)
    assert said.text == (
        "Your server lab will be stopped at 14:00 UTC on 01 March: its time on SLURM is over then. Save your work."
    )
    reason = "its time of 2 h on SLURM was over"
    assert was_stopped("", reason) == f"Your server was stopped: {reason}. Files in your home are kept."
