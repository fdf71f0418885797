"""core/availability.py: what a card says, and what is said aloud of a change."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daas_hub.core.availability import Badge, State, about, badge, news, states, told
from daas_hub.core.placement import Candidate, Placement
from daas_hub.core.places import Place, Policy
from daas_hub.core.room import Fit
from daas_hub.pages import STATIC

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)


def shown(fit: Fit, *, in_s: float | None = None, age_s: float | None = 5) -> Badge:
    starts_at = None if in_s is None else NOW + timedelta(seconds=in_s)
    as_of = None if age_s is None else NOW - timedelta(seconds=age_s)
    first = Candidate(Place("slurm", "gpu"), fit, "", starts_at, as_of)
    return badge("gpu", "GPU", Placement((first,), (), Policy(), "auto", NOW), NOW)


@pytest.mark.parametrize(
    ("one", "state", "words"),
    [
        (shown(Fit.NOW), State.FREE, "Free"),
        (shown(Fit.NOW, age_s=59), State.FREE, "Free"),
        (shown(Fit.LATER), State.BUSY, "Busy"),
        (shown(Fit.CROWDED), State.BUSY, "Busy, starts all the same"),
        (shown(Fit.LATER, in_s=700), State.SOON, "Busy, free in about 12 minutes"),
        (shown(Fit.LATER, in_s=-5), State.SOON, "Busy, free in about 1 minute"),
        (shown(Fit.UNKNOWN, age_s=200), State.UNKNOWN, "Not known whether it is free (seen 3 min ago)"),
        (shown(Fit.UNKNOWN, age_s=None), State.UNKNOWN, "Not known whether it is free"),
        (badge("gpu", "GPU", None, NOW), State.NEVER, "Too large for this hub"),
    ],
)
def test_a_card_says_what_there_is_room_for(one: Badge, state: State, words: str) -> None:
    assert (one.state, one.words) == (state, words)


WAITS = {1: "1 minute", 61: "2 minutes", 3600: "60 minutes", 3700: "75 minutes", 7300: "3 hours", 180_000: "3 days"}


@pytest.mark.parametrize(("seconds", "words"), WAITS.items())
def test_a_wait_is_said_coarsely_and_never_too_short(seconds: float, words: str) -> None:
    assert about(timedelta(seconds=seconds)) == f"about {words}"


def test_only_what_becomes_free_or_full_is_said_aloud() -> None:
    free, busy, soon = shown(Fit.NOW), shown(Fit.LATER), shown(Fit.LATER, in_s=700)
    assert news([busy], states(told([free]))) == "GPU: Busy."
    assert news([free], states(told([soon]))) == "GPU: Free."
    assert news([shown(Fit.LATER, in_s=60)], states(told([soon]))) == ""
    assert news([soon], states(told([busy]))) == ""
    assert told([soon]) != told([shown(Fit.LATER, in_s=60)])
    assert told([free]) == told([shown(Fit.NOW)])


@pytest.mark.parametrize("seen", ["", ",", "x", "gpu", "a" * 10_000, ",:,::", "00000000,gpu:<b>,other:free"])
def test_whatever_a_page_sends_is_no_harm(seen: str) -> None:
    assert isinstance(news([shown(Fit.NOW)], states(seen)), str)


def test_the_script_of_others_is_the_one_that_is_written_down() -> None:
    folder = Path(STATIC) / "daas"
    rows = [line.split("|") for line in (folder / "VENDORED.md").read_text().splitlines() if line.startswith("| `")]
    assert {row[1].strip(" `") for row in rows} == {path.name for path in folder.glob("*.js")}
    for row in rows:
        assert hashlib.sha256((folder / row[1].strip(" `")).read_bytes()).hexdigest() == row[5].strip()
