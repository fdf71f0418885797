"""Names: the login normaliser and the injective safe names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas_hub.core.naming import MAX_NAME, login_name, safe_name


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ada", "ada"),
        (" Ada ", "ada"),
        ("ADMIN", "admin"),
        ("ａｄａ", "ada"),  # full-width letters are the same letters (NFKC)
        ("ada.lovelace", "ada.lovelace"),
        ("ada\n", None),
        ("ada\x00", None),
        ("", None),
        (".", None),
        ("..", None),
        ("a..b", None),
        ("a/b", None),
        ("-rf", None),
        ("а", None),  # Cyrillic а looks like Latin a and is refused
        ("x" * 65, None),
        ("x" * 10**6, None),
    ],
)
def test_login_name(typed: str, expected: str | None) -> None:
    assert login_name(typed) == expected


@given(st.text(max_size=300))
def test_login_name_is_idempotent(text: str) -> None:
    name = login_name(text)
    assert name is None or login_name(name) == name


@given(st.lists(st.text(max_size=80), min_size=1, max_size=3))
def test_safe_names_are_labels(parts: list[str]) -> None:
    name = safe_name(*parts)
    assert len(name) <= MAX_NAME
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)


@settings(max_examples=2000)
@given(st.lists(st.tuples(st.text("ab-", max_size=4), st.text("ab-", max_size=4)), min_size=2, max_size=2, unique=True))
def test_safe_names_are_injective(pairs: list[tuple[str, str]]) -> None:
    """User a-b with the default server and user a with server b are two names (CVE-2020-15110)."""
    (first, second) = pairs
    assert safe_name(*first) != safe_name(*second)


def test_a_hashed_name_cannot_be_typed() -> None:
    hashed = safe_name("Ada Lovelace")
    assert "---" in hashed
    assert safe_name(hashed) != hashed
