"""The contract of directories on a real Active Directory (Samba), and what only such a directory has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ldap3
import pytest

from daas_hub.clients.directory import Address, Directory, DirectorySettings, Verdict
from daas_hub.clients.directory_session import session
from daas_hub.core.directory_flavours import FLAVOURS, NestedGroups
from daas_hub.core.errors import DirectoryUnavailable
from tests.contracts.directory import DirectoryContract, DirectorySite, Known
from tests.servers.samba import (
    BASE,
    CROWD,
    GIDS,
    GROUPS_BASE,
    LOCKOUT_AFTER,
    PEOPLE,
    SERVICE_DN,
    SERVICE_PASSWORD,
    Samba,
)

pytestmark = pytest.mark.needs("samba")
AD = FLAVOURS["ad"]
EVERYBODY = "Domain Users"


def settings(samba: Samba, uri: str = "", **changes: Any) -> DirectorySettings:
    """The preset on that controller."""
    preset = DirectorySettings(
        name="site",
        address=Address(uri=uri or samba.tls_uri, ca_file=str(samba.ca_file)),
        bind_dn=SERVICE_DN,
        bind_password=SERVICE_PASSWORD,
        user_search_base=BASE,
        group_search_base=BASE,
        login_domains=("SITE", "site.test"),
        user_filter=AD.user_filter,
        name_attribute=AD.name_attribute,
        login_attributes=AD.login_attributes,
        home_attribute=AD.home_attribute,
        group_filter=AD.group_filter,
        group_condition=AD.group_condition,
        group_name_attribute=AD.group_name_attribute,
        nested_groups=AD.nested_groups,
        more_attributes=AD.more_attributes,
    )
    return replace(preset, **changes)


def known(name: str) -> Known:
    """A person of the domain."""
    p = PEOPLE[name]
    return Known(
        name=p.name,
        password=p.password,
        uid=p.uid,
        gid=GIDS["lab"],
        home=f"/home/{p.name}",
        shell="/bin/bash",
        display_name=f"{p.name.title()} Test",
        mail=f"{p.name}.mail@post.test",
        groups={EVERYBODY: None, **{group: GIDS.get(group) for group in p.groups}},
    )


class TestActiveDirectory(DirectoryContract):
    @pytest.fixture
    def site(self, samba: Samba) -> Iterator[DirectorySite]:
        site = DirectorySite(settings(samba), known("boss"), known("disabled"), locked_is=Verdict.DISABLED)
        yield site
        site.close()


@pytest.fixture
def directory(samba: Samba) -> Iterator[Directory]:
    directory = Directory(settings(samba))
    yield directory
    directory.close()


async def test_start_tls(samba: Samba) -> None:
    directory = Directory(settings(samba, samba.uri))
    assert (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.OK
    directory.close()


# ---------------------------------------------------------------- groups


WAYS = [NestedGroups.TOKEN_GROUPS, NestedGroups.IN_CHAIN, NestedGroups.MEMBER, NestedGroups.MEMBEROF]
EXPECTED = {
    "eve": set(),
    "ada": {"lab", "crowd"},
    "deep": {f"depth-{n}" for n in range(1, 6)},
    "loopy": {"loop-a", "loop-b"},
    "prima": {"physics", "science"},
}


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_finds_the_same_groups_in_groups(samba: Samba, way: NestedGroups) -> None:
    directory = Directory(settings(samba, nested_groups=way))
    for name, groups in EXPECTED.items():
        found = await directory.lookup(name)
        assert found is not None
        assert set(found[0].groups) == groups | {EVERYBODY}, name
    directory.close()


@pytest.mark.parametrize("way", WAYS)
async def test_only_groups_below_the_base_count(samba: Samba, way: NestedGroups) -> None:
    directory = Directory(settings(samba, nested_groups=way, group_search_base=GROUPS_BASE))
    found = await directory.lookup("prima")
    assert found is not None
    assert set(found[0].groups) == {"physics", "science"}
    directory.close()


async def test_her_own_sid_and_those_of_her_groups_are_told(directory: Directory) -> None:
    found = await directory.lookup("prima")
    assert found is not None
    facts = found[0].attributes
    domain = facts["sid"].rpartition("-")[0]
    assert domain.startswith("S-1-5-21-")
    groups = dict(facts["group_sids"])
    assert groups[EVERYBODY] == f"{domain}-513"
    assert facts["primary_group_sid"] == groups["physics"]


async def test_a_service_account_that_may_not_read_token_groups_is_told(directory: Directory) -> None:
    # A contact has none: the answer is as empty as where reading it is not allowed.
    with session(directory.settings.address) as service:
        assert service.bind(SERVICE_DN, SERVICE_PASSWORD)
        person = service.search(BASE, "(&(objectClass=contact)(cn=c0001))", ["cn"])[0]
        with pytest.raises(DirectoryUnavailable) as error:
            directory.groups(service).of("c0001", person)
    assert "Windows Authorization Access Group" in error.value.log_message


async def test_values_that_come_in_ranges_are_all_read(directory: Directory) -> None:
    with session(directory.settings.address) as service:
        assert service.bind(SERVICE_DN, SERVICE_PASSWORD)
        # Windows gives 1,500 at once; Samba gives what is asked for.
        found = service.search(BASE, "(sAMAccountName=crowd)", ["member;range=0-499"])
    assert len(set(found[0]["member"])) == CROWD


async def test_more_people_than_one_page_are_all_found(directory: Directory) -> None:
    with session(directory.settings.address) as service:
        assert service.bind(SERVICE_DN, SERVICE_PASSWORD)
        assert len(service.search(f"OU=Crowd,{BASE}", "(objectClass=contact)", ["cn"])) == CROWD - 1


# ---------------------------------------------------------------- names


FORMS = [
    "ada",
    "ADA",
    "SITE\\ada",
    "site\\Ada",
    "site.test\\ada",
    "ada.test@site.test",
    "ADA.Test@Site.Test",
    "ada@site.test",
    "ada.mail@post.test",
    " ada.mail@post.test ",
]


@pytest.mark.parametrize("typed", FORMS)
async def test_every_form_of_a_name_is_the_same_person(directory: Directory, typed: str) -> None:
    outcome = await directory.authenticate(typed, "ada-secret")
    assert outcome.identity is not None
    assert outcome.identity == (await directory.lookup("ada") or (None,))[0]
    assert outcome.identity.name == "ada"


OTHERS = [
    "OTHER\\ada",
    "\\ada",
    "SITE\\",
    "SITE\\SITE\\ada",
    "ada\\SITE",
    "ada@other.test",
    "@site.test",
    "ada@",
    "SITE\\*",
    "SITE\\ada@site.test",
    "*@post.test",
    "ada.mail@post.test\0",
    "ada.mail@post.test)(mail=*",
    "c0001",
]


@pytest.mark.parametrize("typed", OTHERS)
async def test_other_forms_are_nobody(directory: Directory, typed: str) -> None:
    assert (await directory.authenticate(typed, "ada-secret")).verdict is Verdict.WRONG
    assert await directory.lookup(typed) is None


async def test_an_address_of_two_people_lets_nobody_in_who_types_it(samba: Samba, directory: Directory) -> None:
    change = f"dn: {PEOPLE['bob'].dn}\nchangetype: modify\nreplace: mail\nmail: "
    await samba.modify(f"{change}carl.mail@post.test\n")
    try:
        with pytest.raises(DirectoryUnavailable) as error:
            await directory.authenticate("carl.mail@post.test", "carl-secret")
        assert "2 entries match" in error.value.log_message
        assert (await directory.authenticate("carl", "carl-secret")).verdict is Verdict.OK
        # A login name and a principal name come before an address: nobody takes one by an address like it.
        await samba.modify(f"{change}carl@site.test\n")
        assert (await directory.authenticate("carl@site.test", "carl-secret")).verdict is Verdict.OK
    finally:
        await samba.modify(f"{change}bob.mail@post.test\n")


async def test_a_rename_keeps_the_lasting_id(samba: Samba, directory: Directory) -> None:
    before = await directory.lookup("fay")
    change = "changetype: modify\nreplace: sAMAccountName\nsAMAccountName: "
    assert before is not None
    dn = PEOPLE["fay"].dn
    await samba.modify(f"dn: {dn}\nchangetype: modrdn\nnewrdn: CN=Fay Other\ndeleteoldrdn: 1\n")
    moved = dn.replace("CN=Fay Test", "CN=Fay Other")
    try:
        await samba.modify(f"dn: {moved}\n{change}fiona\n")
        after = await directory.authenticate("fiona", "fay-secret")
        assert after.identity is not None
        assert (after.identity.subject, after.identity.name) == (before[0].subject, "fiona")
        assert await directory.lookup_subject(before[0].subject) == (after.identity, Verdict.OK)
        assert await directory.lookup("fay") is None
    finally:
        await samba.modify(f"dn: {moved}\n{change}fay\n")
        await samba.modify(f"dn: {moved}\nchangetype: modrdn\nnewrdn: CN=Fay Test\ndeleteoldrdn: 1\n")


# ---------------------------------------------------------------- how an account stands


STATES = {
    "disabled": (Verdict.DISABLED, False),
    "expired": (Verdict.EXPIRED, False),
    "mustchange": (Verdict.MUST_CHANGE, True),
}


@pytest.mark.parametrize("name", STATES)
async def test_how_an_account_stands_is_told_after_the_right_password_only(directory: Directory, name: str) -> None:
    verdict, _ = STATES[name]
    assert (await directory.authenticate(name, f"{name}-secret")).verdict is verdict
    assert (await directory.authenticate(name, "wrong")).verdict is Verdict.WRONG
    found = await directory.lookup(name)
    assert found is not None
    assert found[1] is verdict


async def test_a_lock_out_is_known_and_takes_no_access(samba: Samba, directory: Directory) -> None:
    person = PEOPLE["lockedout"]
    await lock_out(samba)
    assert (await directory.authenticate(person.name, person.password)).verdict is Verdict.LOCKED_OUT
    assert (await directory.authenticate(person.name, "wrong")).verdict is Verdict.LOCKED_OUT
    found = await directory.lookup(person.name)
    assert found is not None
    assert found[1] is Verdict.LOCKED_OUT


async def lock_out(samba: Samba) -> None:
    """Wrong passwords, as somebody else would try them elsewhere."""
    person = PEOPLE["lockedout"]
    with session(Address(uri=samba.tls_uri, ca_file=str(samba.ca_file))) as other:
        for _ in range(LOCKOUT_AFTER):
            assert not other.bind(person.dn, "guessed")
    assert await samba.value(person.dn, "lockoutTime") not in {"", "0"}


@pytest.mark.parametrize(
    "typed", ["dora", "SITE\\dora", "dora.test@site.test", "dora@site.test", "dora.mail@post.test"]
)
async def test_a_wrong_password_counts_exactly_once(samba: Samba, directory: Directory, typed: str) -> None:
    before = int(await samba.value(PEOPLE["dora"].dn, "badPwdCount") or 0)
    assert (await directory.authenticate(typed, "wrong")).verdict is Verdict.WRONG
    assert int(await samba.value(PEOPLE["dora"].dn, "badPwdCount")) == before + 1


async def test_a_lookup_counts_as_no_attempt(samba: Samba, directory: Directory) -> None:
    before = await samba.value(PEOPLE["emil"].dn, "badPwdCount")
    assert await directory.lookup("emil") is not None
    await directory.authenticate("emil", "")
    assert await samba.value(PEOPLE["emil"].dn, "badPwdCount") == before


ATTEMPTS = ["ada", "nobody-of-that-name", "disabled", "noposix", "SITE\\ada", "ada@site.test", "nobody@site.test"]


async def test_unknown_people_cost_the_same_operations_as_wrong_passwords(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()

    def counted(kind: str) -> Any:
        plain = getattr(ldap3.Connection, kind)

        def call(*args: Any, **kwargs: Any) -> Any:
            asked[kind] += 1
            return plain(*args, **kwargs)

        return call

    for kind in ("bind", "search", "unbind"):
        monkeypatch.setattr(ldap3.Connection, kind, counted(kind))
    # The service's connection is there for all.
    await directory.lookup("ada")
    for typed in ATTEMPTS:
        asked.clear()
        assert (await directory.authenticate(typed, "wrong")).verdict is Verdict.WRONG
        assert asked == {"bind": 1, "search": 1, "unbind": 1}, typed


def test_a_bind_without_tls_is_refused_by_the_directory_itself(samba: Samba) -> None:
    connection = ldap3.Connection(ldap3.Server(samba.uri, get_info=ldap3.NONE), PEOPLE["ada"].dn, "ada-secret")
    assert not connection.bind()
    assert connection.result["description"] == "strongerAuthRequired"
    connection.unbind()
