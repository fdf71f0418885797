"""core/patterns.py: Python's meaning of a pattern, without its worst case."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core.patterns import MAX_TEXT, Pattern

PATTERNS = [
    "^jupyter/.+:.+$",
    r"[a-z0-9]+(-[a-z0-9]+)*",
    r"(a+)+b",
    r"(a|ab)(c|bcd)(d*)",
    r"x{2,4}y?",
    r"(?:x{0,3}){2}",
    r"[^a-c]\d\W\s?.",
    r"(|a)*b",
    r"a|^b$|c$|",
    r"[]a-]+?",
    r"(?P<tag>\w+)\.\w{1,3}",
    r"\D\S\w|[\d_]+|[^\d\s]+",
]


@pytest.mark.parametrize("source", PATTERNS)
def test_agrees_with_re(source: str) -> None:
    pattern, theirs = Pattern(source), re.compile(source)

    @given(st.text("abcdxyz0-]_/:. \n\u0660é", max_size=8) | st.from_regex(theirs, fullmatch=True))
    def agrees(text: str) -> None:
        # Python's $ also matches before a last newline; a whole match never ends there.
        assert pattern.fullmatch(text) == (theirs.fullmatch(text) is not None)

    agrees()


@pytest.mark.parametrize(
    "source", [r"(a+)+b", r"(a|a)*b", r"(.*)(.*)(.*)(.*)(.*)b", r"(\w*)*\d", r"(a?){200}b", r"((a*)*)*b"]
)
def test_hostile_text_takes_bounded_time(source: str) -> None:
    pattern = Pattern(source)
    began = time.perf_counter()
    assert not pattern.fullmatch("a" * MAX_TEXT)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (r"(a)\1", "groupref"),
        (r"(?=a)a", "assert"),
        (r"(?!a)b", "assert"),
        (r"\ba", "not supported"),
        (r"(?i)a", "flags"),
        (r"(?i:a)", "flags"),
        (r"(?>a+)b", "not supported"),
        (r"(a", "not a regular expression"),
        (r"a{1000}b{1000}", "too large"),
        (r"(a{60000}){60000}", "too large"),
        (r"((){60000}){60000}", "too large"),
        ("(" * 490 + ")" * 490, "regular expression|nested"),
        ("a" * 1001, "1001 characters"),
    ],
)
def test_what_cannot_be_bounded_is_refused(source: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pattern(source)


def test_longer_texts_never_match() -> None:
    assert Pattern("a*").fullmatch("a" * MAX_TEXT)
    assert not Pattern("a*").fullmatch("a" * (MAX_TEXT + 1))
