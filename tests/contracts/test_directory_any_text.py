"""Any text at all, as a name, an address or a DN, finds nothing or exactly its own entry, on a real OpenLDAP."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from daas_hub.clients.directory import Directory, fill
from daas_hub.clients.directory_session import Session, session
from daas_hub.core.directory import escape
from daas_hub.core.login_forms import address, forms, query
from daas_hub.core.naming import login_name
from tests.contracts.test_directory_slapd import settings
from tests.servers.slapd import BASE, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd
from tests.waiting import LONG

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(3600)]
TEXTS = 100_000 if LONG else 10_000
"""How many texts there are in all; they are dealt out to the tests below."""
everything = bounded(max_examples=TEXTS * 3 // 10, deadline=None, suppress_health_check=list(HealthCheck))
few = bounded(max_examples=TEXTS // 20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A server that the tests share; they change nothing."""
    server = asyncio.run(Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def service(still: Slapd) -> Iterator[Session]:
    """One conversation for all texts."""
    with session(replace(settings(still, still.uri).address, allow_plaintext=True)) as service:
        assert service.bind(SERVICE_DN, SERVICE_PASSWORD)
        yield service


SPECIAL = ["*", "(", ")", "\\", "\0", "\n", " ", "|", "&", "=", ",", "+", '"', "#", "ａ", "\u00ad", "\\2a", "cn=", "a",
           "@site.test", "SITE\\", ")(uid=*", "{name}", ";", "<", ">", "\x7f", "ſ", "İ"]  # fmt: skip
NAMES = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from([*SPECIAL, *PEOPLE]), max_size=6).map("".join),
    st.tuples(st.sampled_from(sorted(PEOPLE)), st.sampled_from(SPECIAL), st.booleans()).map(
        lambda t: t[0] + t[1] if t[2] else t[1] + t[0]
    ),
)
SENDABLE = NAMES.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


def squashed(text: str) -> str:
    """As caseIgnoreMatch prepares a value (RFC 4518): case, compatibility forms, controls and blanks do not count."""
    kept = (c for c in unicodedata.normalize("NFKC", text).casefold() if unicodedata.category(c) not in ("Cc", "Cf"))
    return "".join(kept).strip()


def meant(text: str) -> str | None:
    """Whom a text names where ``SITE`` and ``site.test`` are the domain, and everybody's mail is below it."""
    before, backslash, after = text.partition("\\")
    if backslash:
        domain = unicodedata.normalize("NFKC", before).strip(" ").casefold()
        return login_name(after) if domain in {"site", "site.test"} else None
    local, _, domain = (address(text) or "").rpartition("@")
    return local if domain == "site.test" else login_name(text)


def test_a_login_finds_nobody_or_exactly_who_was_named(still: Slapd) -> None:
    """The whole way, a connection each, with every form of a name allowed."""
    plain = settings(still, still.uri)
    directory = Directory(
        replace(
            plain,
            address=replace(plain.address, allow_plaintext=True),
            login_attributes=("mail",),
            login_domains=("SITE", "site.test"),
        )
    )
    with asyncio.Runner() as runner:

        @few
        @given(NAMES)
        def look_up(text: str) -> None:
            found = runner.run(directory.lookup(text))
            person = meant(text)
            assert (found is not None) == (person in PEOPLE)
            assert found is None or found[0].name == person

        look_up()
    directory.close()


def test_a_name_in_a_filter_matches_only_itself(still: Slapd, service: Session) -> None:
    plain = settings(still, still.uri)

    @everything
    @given(SENDABLE)
    def search(text: str) -> None:
        found = service.search(plain.user_search_base, fill(plain.user_filter, {"name": text}), ["uid"])
        assert [squashed(text) for entry in found] == [entry["uid"][0] for entry in found]
        assert len(found) <= 1

    search()


def test_all_readings_of_a_text_match_only_its_own_entry(still: Slapd, service: Session) -> None:
    plain = settings(still, still.uri)

    @everything
    @given(SENDABLE)
    def search(text: str) -> None:
        typed = forms(text, "uid", ("mail",), ("SITE",))
        if typed:
            found = service.search(plain.user_search_base, query(typed, plain.user_filter, "uid"), ["uid"])
            assert {form.value.partition("@")[0] for form in typed} >= {entry["uid"][0] for entry in found}
            assert len(found) <= 1

    search()


def test_a_dn_in_a_filter_matches_only_itself(service: Session) -> None:
    """Groups are found by the DNs that the server gave; nothing in one becomes a part of the filter."""
    dns = {person.dn.lower() for person in PEOPLE.values()}

    @everything
    @given(SENDABLE)
    def search(text: str) -> None:
        for dn in (f"uid={text},ou=people,{BASE}", text):
            found = service.search(BASE, f"(entryDN={escape(dn)})", ["uid"])
            assert len(found) <= 1
            assert not found or found[0]["dn"][0].lower() in dns | {BASE} or squashed(text) in {"", "cn="}

    search()


def test_a_value_cannot_leave_its_place_in_any_filter(service: Session) -> None:
    """Beside a condition that nobody meets, whatever is typed finds nobody."""

    @few
    @given(
        SENDABLE, st.sampled_from(["(&(o=nobody)(uid={name}))", "(&(uid={name})(o=nobody))", "(&(o={name})(o=nobody))"])
    )
    def search(text: str, template: str) -> None:
        assert service.search(BASE, fill(template, {"name": text}), ["uid"]) == []

    search()
