"""What entries of a directory say: escaping, locks, names, identities."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daas_hub.clients.directory import fill, sendable, subject_filter
from daas_hub.core.directory import Verdict, canonical_name, escape, identity_of, lock_state, number, others

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("ada", "ada"), ("", ""), ("a*b", r"a\2ab"), ("(|)", r"\28|\29"), ("\\2a", r"\5c2a"), ("\0", r"\00"), ("é", "é")],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_a_filter_is_filled_in_one_pass() -> None:
    # A value that looks like a placeholder stays what it is.
    assert fill("(&(uid={name})(o={dn}))", {"name": "{dn}", "dn": "*"}) == r"(&(uid={dn})(o=\2a))"


def test_a_lasting_id_is_looked_for_in_both_forms() -> None:
    found = subject_filter("00112233-4455-6677-8899-aabbccddeeff")
    assert "(entryUUID=00112233-4455-6677-8899-aabbccddeeff)" in found
    # The bytes of a GUID on the wire: the first three fields are little-endian.
    assert r"(objectGUID=\33\22\11\00\55\44\77\66\88\99\aa\bb\cc\dd\ee\ff)" in found
    assert subject_filter("x)(uid=*") == r"(entryUUID=x\29\28uid=\2a)"


@pytest.mark.parametrize(
    ("entry", "verdict"),
    [
        ({}, Verdict.OK),
        ({"pwdaccountlockedtime": ["000001010000Z"]}, Verdict.LOCKED),
        ({"pwdaccountlockedtime": ["20260101000000Z"]}, Verdict.OK),
        ({"nsaccountlock": ["TRUE"]}, Verdict.LOCKED),
        ({"nsaccountlock": ["false"]}, Verdict.OK),
        ({"logindisabled": ["true"]}, Verdict.LOCKED),
        ({"shadowexpire": ["0"]}, Verdict.OK),
        ({"shadowexpire": ["-1"]}, Verdict.OK),
        ({"shadowexpire": ["20455"]}, Verdict.EXPIRED),
        ({"shadowexpire": ["20456"]}, Verdict.OK),
    ],
)
def test_locks(entry: dict[str, list[str]], verdict: Verdict) -> None:
    assert (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days == 20455
    assert lock_state(entry, NOW) is verdict


@pytest.mark.parametrize(
    ("dn", "values", "name"),
    [
        ("uid=ada,ou=p", ["ada"], "ada"),
        ("cn=Ada L,ou=p", ["Ada"], "ada"),
        ("uid=ada,ou=p", ["bob", "ada"], "ada"),
        ("uid=ada,ou=p", ["Ada", "ada"], "ada"),
        ("cn=ada,ou=p", ["bob", "ada"], None),
        (r"uid=a\+b,ou=p", ["a+b", "c"], "a+b"),
        ("uid=ada,ou=p", [], None),
        ("uid=ada,ou=p", ["not a name"], None),
    ],
)
def test_the_one_name_of_an_entry(dn: str, values: list[str], name: str | None) -> None:
    assert canonical_name({"dn": [dn], "uid": values}, "uid") == name


@pytest.mark.parametrize(
    ("value", "read"), [("20001", 20001), ("-1", "-1"), ("0x1", "0x1"), ("٣", "٣"), ("9" * 11,) * 2]
)
def test_numbers(value: str, read: int | str) -> None:
    assert number({"uidnumber": [value]}, "uidNumber") == read


def test_an_entry_without_a_lasting_id_is_known_by_its_dn() -> None:
    identity = identity_of("ldap:x", "ada", {"dn": ["UID=ada,O=X"]}, [{"cn": ["g"]}, {"gidnumber": ["7"]}])
    assert identity.subject == "dn:uid=ada,o=x"
    assert identity.display_name == "ada"
    assert identity.groups == ("g",)
    assert identity.attributes == {"posix_groups": []}


@pytest.mark.parametrize(("password", "ok"), [("", False), ("x", True), ("\ud800", False), ("x" * 4097, False)])
def test_sendable(password: str, ok: bool) -> None:
    assert sendable(password) is ok


def test_one_entry_that_is_seen_twice_is_no_other_person() -> None:
    ada = {"dn": ["uid=ada,ou=people"], "entryuuid": ["1"], "uid": ["ada"]}
    mirrored = {**ada, "dn": ["uid=ada,ou=mirror"]}
    bob = {"dn": ["uid=bob,ou=people"], "entryuuid": ["2"], "uid": ["bob"]}
    nameless = {"dn": ["cn=x,ou=people"], "entryuuid": ["3"]}
    assert others("1", [ada, mirrored], "uid") == []
    twice = [bob, {**bob, "dn": ["uid=bob,ou=mirror"]}]
    assert others("1", [mirrored, nameless, *twice], "uid") == ["bob", "cn=x,ou=people"]
    # Without lasting ids two names are two entries.
    assert others("dn:uid=ada,ou=people", [{"dn": ["uid=ADA,ou=people"]}, {"dn": ["uid=eve"]}], "uid") == ["uid=eve"]
