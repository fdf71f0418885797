"""Tokens for other services: what may be asked for, when each is renewed, and what stands in the files."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.core.site_tokens import Held, files_of, first_end, held_in, seconds_in, too_short, unfit, wanted


def test_what_a_site_may_ask_for() -> None:
    found = wanted({"storage": {"audience": "https://storage.site", "scope": "read"}, "a_b-2": {"resource": "urn:b"}})
    assert found["storage"].form == {"audience": "https://storage.site", "scope": "read"}
    assert list(found) == ["storage", "a_b-2"]


@pytest.mark.parametrize("name", ["", "Storage", "../up", "a.b", "a/b", "2nd", "-a", "a\n", "ä", "a" * 41, ".hidden"])
def test_names_that_are_no_files_names(name: str) -> None:
    with pytest.raises(ConfigError, match="site_tokens has the name"):
        wanted({name: {"audience": "x"}})


@pytest.mark.parametrize(
    "asked", [{}, None, "storage", {"audience": ""}, {"audience": 1}, {"audience": "x", "subject_token": "hers"}]
)
def test_questions_that_are_none(asked: Any) -> None:
    with pytest.raises(ConfigError, match="must be a dict of texts under audience, resource, scope"):
        wanted({"storage": asked})


def test_renewed_at_half_its_life_and_gone_before_its_end() -> None:
    held = Held("t", got_at=1000.0, expires_at=1300.0)
    assert (held.due_at(), held.gone_at(5.0)) == (1150.0, 1295.0)
    # Several tries fit in between, however short it lives.
    for lasts in (3.0, 60.0, 300.0, 86400.0):
        one = Held("t", 0.0, lasts)
        assert 0 < 4 * one.retry_s(1.0) <= one.gone_at(1.0) - one.due_at() or one.retry_s(1.0) == 0.2
        assert one.retry_s(1.0) <= 15.0


def test_too_short_for_the_place() -> None:
    assert too_short(241.0, 120.0) == ""
    assert "more than 240 s" in too_short(240.0, 120.0)


@pytest.mark.parametrize(("said", "seconds"), [(300, 300.0), (0.5, 0.5), *((x, 0.0) for x in (None, True, "300", 0))])
def test_lifetimes_of_answers(said: Any, seconds: float) -> None:
    assert seconds_in(said) == seconds
    assert seconds_in(-1) == seconds_in(float("nan")) == seconds_in(1e12) == 0.0


@pytest.mark.parametrize("value", ["", "two\nlines", "nul\0", "ümlaut", "x" * 40_000])
def test_what_is_no_token(value: str) -> None:
    assert unfit(value, 300.0)
    assert unfit("plain.text_-", 300.0) == ""
    assert "how long" in unfit("plain", 0.0)


def test_the_files_and_what_the_next_hub_reads_of_them() -> None:
    held = {"storage": Held("secret", 0.0, 1_800_000_000.0)}
    files = files_of(held, {"batch": "The provider is away."})
    assert files == {
        "storage": "secret",
        "storage.expires": "2027-01-15T08:00:00+00:00\n",
        "batch.missing": "The provider is away.\n",
    }
    now = 1_799_999_900.0
    assert held_in(files, ["storage", "batch"], now) == {"storage": Held("secret", now, 1_800_000_000.0)}
    assert first_end(files) == 1_800_000_000.0
    assert first_end({**files, "batch.expires": "2026-01-15T08:00:00+00:00"}) == 1_768_464_000.0
    assert first_end({"batch.missing": "why\n"}) is first_end({"storage.expires": "soon"}) is None
    # Nobody asks for it any more; it is over; it does not say when it is.
    assert held_in(files, ["batch"], now) == {}
    assert held_in(files, ["storage"], 1_800_000_000.0) == {}
    for said in ({"storage": "secret"}, {**files, "storage.expires": "soon"}, {"storage.expires": "2027-01-15"}):
        assert held_in(said, ["storage"], now) == {}
