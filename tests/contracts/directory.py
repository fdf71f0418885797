"""What every directory must do for us, whoever makes it: slapd, the demo's listener, Samba's Active Directory.

A subclass gives the fixture ``site``: a running directory with people whose state is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from daas_hub.clients.directory import Directory, DirectorySettings, Verdict
from daas_hub.clients.directory_queue import PLACES
from daas_hub.core.allocation import Kind
from daas_hub.core.errors import DirectoryBusy, DirectoryUnavailable
from daas_hub.core.naming import login_name
from tests.servers.no_blocking import no_blocking


@dataclass(frozen=True)
class Known:
    """One person as she stands in the directory. ``groups``: name → gid if it has one, the primary one included."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str
    display_name: str
    mail: str
    groups: Mapping[str, int | None]


@dataclass
class DirectorySite:
    """A running directory: how to reach it, whom it knows."""

    settings: DirectorySettings
    person: Known
    locked: Known
    locked_is: Verdict = Verdict.LOCKED
    _open: list[Directory] = field(default_factory=list)

    def directory(self, **changes: object) -> Directory:
        """A client of it, closed at the end of the test."""
        directory = Directory(replace(self.settings, **changes))  # type: ignore[arg-type]
        self._open.append(directory)
        return directory

    def close(self) -> None:
        """Close all clients."""
        for directory in self._open:
            directory.close()


HOSTILE = ["*", "a*", ")(uid=*", "*)(uid=*))(|(uid=*", "\0", "{name}\0", "{name}\n", "{name} x", "(|(uid={name}))",
           "\\2a", "#", "", " ", "..", "uid={name}", "{name},ou=people", "ａ" * 70, "x" * 100_000]  # fmt: skip
"""What somebody may type; ``{name}`` is a person's name."""


class DirectoryContract:
    """The read part: nothing in the directory is changed."""

    @pytest.fixture(autouse=True)
    def _the_loop_is_free(self) -> Iterator[None]:
        with no_blocking():
            yield

    async def test_the_right_password_gives_the_identity_with_its_posix_facts(self, site: DirectorySite) -> None:
        outcome = await site.directory().authenticate(site.person.name, site.person.password)
        assert outcome.verdict is Verdict.OK
        identity, person = outcome.identity, site.person
        assert identity is not None
        assert (identity.name, identity.display_name, identity.mail) == (person.name, person.display_name, person.mail)
        assert identity.issuer == f"ldap:{site.settings.name}"
        assert identity.subject
        assert not identity.subject.startswith("dn:")
        assert set(identity.groups) == set(person.groups)
        facts = identity.attributes
        assert (facts["uid_number"], facts["gid_number"]) == (person.uid, person.gid)
        assert (facts["home"], facts["shell"]) == (person.home, person.shell)
        assert {(name, gid) for name, gid in facts["posix_groups"]} == {
            (name, gid) for name, gid in person.groups.items() if gid is not None
        }

    @pytest.mark.parametrize("spelling", ["upper", "blanks", "fullwidth"])
    async def test_a_name_in_another_spelling_is_the_same_person(self, site: DirectorySite, spelling: str) -> None:
        name = site.person.name
        wide = "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in name)
        typed = {"upper": name.upper(), "blanks": f"  {name} ", "fullwidth": wide}[spelling]
        outcome = await site.directory().authenticate(typed, site.person.password)
        assert outcome.identity is not None
        assert outcome.identity.name == name

    async def test_wrong_password_and_unknown_person_are_one_answer(self, site: DirectorySite) -> None:
        directory = site.directory()
        wrong = await directory.authenticate(site.person.name, site.person.password + "x")
        unknown = await directory.authenticate("nobody-of-that-name", site.person.password)
        assert wrong == unknown
        assert wrong.verdict is Verdict.WRONG

    async def test_an_empty_password_is_wrong_and_never_sent(self, site: DirectorySite) -> None:
        # RFC 4513 §5.1.2: many servers take it for an anonymous bind and answer "success".
        assert (await site.directory().authenticate(site.person.name, "")).verdict is Verdict.WRONG

    @pytest.mark.parametrize("password", ["\0", "a\0b", "\x7f", "ﬁ", "x" * 5000, "\ud800"])
    async def test_odd_passwords_are_wrong_and_nothing_breaks(self, site: DirectorySite, password: str) -> None:
        assert (await site.directory().authenticate(site.person.name, password)).verdict is Verdict.WRONG

    async def test_a_locked_account_is_told_so(self, site: DirectorySite) -> None:
        outcome = await site.directory().authenticate(site.locked.name, site.locked.password)
        assert outcome.verdict is site.locked_is
        assert outcome.identity is None

    async def test_or_not_where_that_must_not_be_learned(self, site: DirectorySite) -> None:
        directory = site.directory(tell_locked=False)
        assert (await directory.authenticate(site.locked.name, "anything")).verdict is Verdict.WRONG

    @pytest.mark.parametrize("typed", HOSTILE, ids=repr)
    async def test_hostile_names_find_nobody(self, site: DirectorySite, typed: str) -> None:
        typed = typed.replace("{name}", site.person.name)
        directory = site.directory()
        assert (await directory.authenticate(typed, site.person.password)).verdict is Verdict.WRONG
        assert await directory.lookup(typed) is None
        assert login_name(typed) != site.person.name

    async def test_looking_up_by_name_and_by_lasting_id_gives_what_the_login_gave(self, site: DirectorySite) -> None:
        directory = site.directory()
        identity = (await directory.authenticate(site.person.name, site.person.password)).identity
        assert identity is not None
        assert await directory.lookup(site.person.name) == (identity, Verdict.OK)
        assert await directory.lookup_subject(identity.subject) == (identity, Verdict.OK)
        assert await directory.lookup_subject(identity.subject, alone=True) == (identity, Verdict.OK)

    async def test_looking_up_says_who_is_locked_and_who_is_gone(self, site: DirectorySite) -> None:
        directory = site.directory()
        found = await directory.lookup(site.locked.name)
        assert found is not None
        assert found[1] is site.locked_is
        assert await directory.lookup("nobody-of-that-name") is None
        assert await directory.lookup_subject("00000000-0000-0000-0000-000000000000") is None
        assert await directory.lookup_subject("*") is None
        assert await directory.lookup_subject(f"dn:uid=nobody,{site.settings.user_search_base}") is None

    async def test_a_refused_service_account_is_a_failure_of_the_directory(self, site: DirectorySite) -> None:
        directory = site.directory(bind_password="wrong")
        for _ in range(2):
            with pytest.raises(DirectoryUnavailable) as error:
                await directory.authenticate(site.person.name, site.person.password)
        # Held down: a second attempt would bring the service account nearer to being locked.
        assert "a moment ago" in error.value.log_message
        assert site.settings.bind_password not in error.value.log_message

    async def test_many_at_once_are_all_answered(self, site: DirectorySite) -> None:
        directory = site.directory()
        outcomes = await asyncio.gather(
            *(directory.authenticate(site.person.name, site.person.password) for _ in range(24))
        )
        assert {o.verdict for o in outcomes} == {Verdict.OK}

    async def test_more_than_the_queue_holds_are_refused_at_once(self, site: DirectorySite) -> None:
        directory = site.directory(threads=1)
        asked = [directory.authenticate(site.person.name, site.person.password) for _ in range(PLACES + 4)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert sum(isinstance(o, DirectoryBusy) for o in outcomes) == 4
        assert sum(getattr(o, "verdict", None) is Verdict.OK for o in outcomes) == PLACES

    async def test_a_number_that_somebody_has_is_known(self, site: DirectorySite) -> None:
        directory, person = site.directory(), site.person
        assert await directory.has_number(Kind.UID, person.uid)
        assert await directory.has_number(Kind.GID, person.gid)
        for gid in filter(None, person.groups.values()):
            assert await directory.has_number(Kind.GID, gid)
        assert not await directory.has_number(Kind.UID, 59_999)
        assert not await directory.has_number(Kind.GID, 59_999)
        assert not await site.directory(group_search_base="").has_number(Kind.GID, 59_999)

    async def test_ping_finds_the_directory(self, site: DirectorySite) -> None:
        await site.directory().ping()
