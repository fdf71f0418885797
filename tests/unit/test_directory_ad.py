"""What Active Directory says in its own ways, and what people type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas_hub.core.directory import ACTIVE, AD_REFUSALS, Verdict, lock_state, refusal
from daas_hub.core.directory_ad import (
    State,
    account_state,
    domain_of,
    filetime,
    primary_group_sid,
    sid_bytes,
    sid_filter,
    sid_text,
    sub_code,
)
from daas_hub.core.login_forms import Form, address, forms, query

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def ticks(when: datetime) -> str:
    return str(int((when - datetime(1601, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 10)


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        ({}, State.OK),
        ({"useraccountcontrol": ["512"], "pwdlastset": ["1"]}, State.OK),
        ({"useraccountcontrol": ["514"]}, State.DISABLED),
        ({"useraccountcontrol": ["514"], "accountexpires": ["1"]}, State.DISABLED),
        ({"accountexpires": ["0"]}, State.OK),
        ({"accountexpires": ["9223372036854775807"]}, State.OK),
        ({"accountexpires": [ticks(NOW)]}, State.EXPIRED),
        ({"accountexpires": [ticks(NOW + timedelta(seconds=1))]}, State.OK),
        ({"msds-user-account-control-computed": ["16"]}, State.LOCKED_OUT),
        ({"lockouttime": ["1"]}, State.OK),
        ({"msds-user-account-control-computed": ["8388608"]}, State.PASSWORD_EXPIRED),
        ({"pwdlastset": ["0"]}, State.MUST_CHANGE),
        ({"pwdlastset": ["0"], "useraccountcontrol": ["66048"]}, State.OK),
        ({"useraccountcontrol": ["x"], "accountexpires": [""], "pwdlastset": []}, State.OK),
    ],
)
def test_how_an_account_stands(entry: dict[str, list[str]], state: State) -> None:
    assert account_state(entry, NOW) is state
    assert lock_state(entry, NOW).value == state.value
    assert (lock_state(entry, NOW) in ACTIVE) == (state not in {State.DISABLED, State.EXPIRED})


def test_times_outside_of_the_calendar() -> None:
    assert filetime(0) == datetime(1601, 1, 1, tzinfo=UTC)
    assert filetime(2**63 - 2) > NOW
    assert filetime(-(2**63)) < NOW


WORDS = "80090308: LdapErr: DSID-0C090446, comment: AcceptSecurityContext error, data {}, v4563\0"


@pytest.mark.parametrize("code", AD_REFUSALS)
def test_the_reason_of_a_refused_bind(code: str) -> None:
    assert sub_code(WORDS.format(code)) == code
    # The reason decides, however the entry stands: it says whether the password was right.
    for state in Verdict:
        assert refusal(code, state, tell_locked=True) is AD_REFUSALS[code]


@pytest.mark.parametrize(
    ("message", "state", "tell", "verdict"),
    [
        ("", Verdict.LOCKED, True, Verdict.LOCKED),
        ("", Verdict.LOCKED, False, Verdict.WRONG),
        ("", Verdict.DISABLED, True, Verdict.WRONG),
        ("", Verdict.OK, True, Verdict.WRONG),
        (WORDS.format("52e"), Verdict.DISABLED, True, Verdict.WRONG),
        (WORDS.format("7ff"), Verdict.LOCKED, True, Verdict.WRONG),
        ("data 533", Verdict.OK, True, Verdict.WRONG),
    ],
)
def test_what_a_refusal_means(message: str, state: Verdict, tell: bool, verdict: Verdict) -> None:
    assert refusal(sub_code(message), state, tell_locked=tell) is verdict


# ---------------------------------------------------------------- SIDs


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=15), st.integers(0, 2**48 - 1))
def test_a_sid_comes_back_as_it_went(parts: list[int], authority: int) -> None:
    text = "-".join(["S-1", str(authority), *map(str, parts)])
    assert sid_text(sid_bytes(text)) == text


def test_a_sid_in_a_filter() -> None:
    assert sid_filter("S-1-5-32-545") == r"(objectSid=\01\02\00\00\00\00\00\05\20\00\00\00\21\02\00\00)"
    for wrong in ("", "S-1", "X-1-5-32", "S-1-5-*", "S-1-5-" + "-".join("1" * 16), "S-1-5-99999999999"):
        with pytest.raises((ValueError, OverflowError)):
            sid_bytes(wrong)


def test_the_primary_group() -> None:
    person = {"objectsid": ["S-1-5-21-1-2-3-1104"], "primarygroupid": ["513"]}
    assert primary_group_sid(person) == "S-1-5-21-1-2-3-513"
    assert primary_group_sid({}) is None
    assert primary_group_sid({"objectsid": ["S-1-5-21-1-2-3-1104"]}) is None


@pytest.mark.parametrize(
    ("dn", "domain"),
    [
        ("CN=a,OU=b,DC=site,DC=org", "DC=site,DC=org"),
        ("DC=site,DC=org", "DC=site,DC=org"),
        ("cn=a\\,dcx,dc=s", "dc=s"),
        ("uid=a,o=x", ""),
    ],
)
def test_the_domain_of_an_entry(dn: str, domain: str) -> None:
    assert domain_of(dn) == domain


# ---------------------------------------------------------------- what people type

AD = ("userPrincipalName", "mail")


def readings(text: str, others: tuple[str, ...] = AD, domains: tuple[str, ...] = ("SITE", "site.org")) -> list[str]:
    return [f"{form.attribute}={form.value}" for form in forms(text, "sAMAccountName", others, domains)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada", ["sAMAccountName=ada"]),
        ("SITE\\Ada", ["sAMAccountName=ada"]),
        ("ｓｉｔｅ\\ada", ["sAMAccountName=ada"]),
        ("OTHER\\ada", []),
        ("\\ada", []),
        ("SITE\\a\\b", []),
        ("ada@other.org", ["sAMAccountName=ada@other.org", "userPrincipalName=ada@other.org", "mail=ada@other.org"]),
        (
            "Ada@Site.org",
            [
                "sAMAccountName=ada@site.org",
                "userPrincipalName=ada@site.org",
                "sAMAccountName=ada",
                "mail=ada@site.org",
            ],
        ),
        ("o'hara@x.org", ["userPrincipalName=o'hara@x.org", "mail=o'hara@x.org"]),
        ("müller@x.org", ["userPrincipalName=müller@x.org", "mail=müller@x.org"]),
        ("a b@x.org", []),
        ("@x.org", []),
        ("a@b@x.org", ["sAMAccountName=a@b@x.org"]),
        ("a@x.org\0", []),
        ("", []),
    ],
)
def test_readings_of_what_was_typed(text: str, expected: list[str]) -> None:
    assert readings(text) == expected


def test_without_settings_only_the_login_name_counts() -> None:
    assert readings("ada@site.org", (), ()) == ["sAMAccountName=ada@site.org"]
    assert readings("SITE\\ada", (), ()) == []


@pytest.mark.parametrize("text", ["a" * 300, "a" * 200 + "@x.org", "a@" + "x" * 300])
def test_what_is_too_long_is_nobody(text: str) -> None:
    assert address(text) is None
    assert readings(text) == []


def test_all_readings_are_one_search_among_people() -> None:
    person = "(&(type=1)(uid={name}))"
    two = [Form("uid", "a*"), Form("mail", "a@x")]
    assert query(two[:1], person, "uid") == r"(&(type=1)(uid=a\2a))"
    assert query(two[1:], person, "uid") == "(&(&(type=1)(uid=*))(|(mail=a@x)))"
    assert query(two, person, "uid") == r"(|(&(type=1)(uid=a\2a))(&(&(type=1)(uid=*))(|(mail=a@x))))"
