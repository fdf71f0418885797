"""The contract of directories on a real OpenLDAP, by StartTLS and ldaps, with RFC 2307 and RFC 2307bis groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.clients.directory import Address, Directory, DirectorySettings
from daas_hub.core.directory_flavours import FLAVOURS, NestedGroups
from daas_hub.core.errors import DirectoryUnavailable
from tests.contracts.directory import DirectoryContract, DirectorySite, Known
from tests.servers.slapd import BASE, GROUPS, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd
from tests.servers.slapd_bis import DEPTH, SlapdBis

pytestmark = pytest.mark.needs("slapd")
USER_FILTER = "(&(objectClass=posixAccount)(uid={name}))"
GROUP_FILTER = "(|(memberUid={name})(member={dn})(&(objectClass=posixGroup)(gidNumber={gid})))"


def settings(slapd: Slapd, uri: str) -> DirectorySettings:
    """How the tests ask that server."""
    return DirectorySettings(
        name="site",
        address=Address(uri=uri, ca_file=str(slapd.ca_file)),
        bind_dn=SERVICE_DN,
        bind_password=SERVICE_PASSWORD,
        user_search_base=f"ou=people,{BASE}",
        user_filter=USER_FILTER,
        name_attribute="uid",
        group_search_base=f"ou=groups,{BASE}",
        group_filter=GROUP_FILTER,
    )


def known(slapd: Slapd, name: str, extra: dict[str, int] | None = None) -> Known:
    """A person of the server's data."""
    p = PEOPLE[name]
    groups = {g: GROUPS[g] for g in p.groups} | {g: gid for g, gid in GROUPS.items() if gid == p.gid} | (extra or {})
    return Known(
        name=p.name,
        password=p.password,
        uid=p.uid,
        gid=p.gid,
        home=f"{slapd.homes}/{p.name}",
        shell="/bin/bash",
        display_name=f"{p.name.title()} Test",
        mail=f"{p.name}@site.test",
        groups=groups,
    )


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """One server for all: the contract changes nothing."""
    server = asyncio.run(Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


class TestLdaps(DirectoryContract):
    @pytest.fixture
    def site(self, slapd: Slapd) -> Iterator[DirectorySite]:
        site = DirectorySite(settings(slapd, slapd.tls_uri), known(slapd, "boss"), known(slapd, "locked"))
        yield site
        site.close()


class TestStartTls(DirectoryContract):
    @pytest.fixture
    def site(self, slapd: Slapd) -> Iterator[DirectorySite]:
        site = DirectorySite(settings(slapd, slapd.uri), known(slapd, "boss"), known(slapd, "locked"))
        yield site
        site.close()


@pytest.fixture(scope="module")
def bis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """Groups with members by DN; the contract changes nothing."""
    server = asyncio.run(SlapdBis(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


BIS = FLAVOURS["rfc2307bis"]


def bis_settings(bis: Slapd, nested: NestedGroups = BIS.nested_groups, depth: int = 10) -> DirectorySettings:
    """The preset on that server."""
    plain = settings(bis, bis.tls_uri)
    return replace(plain, group_filter=BIS.group_filter, nested_groups=nested, nested_depth=depth)


class TestRfc2307bis(DirectoryContract):
    @pytest.fixture
    def site(self, bis: Slapd) -> Iterator[DirectorySite]:
        site = DirectorySite(bis_settings(bis), known(bis, "boss"), known(bis, "locked"))
        yield site
        site.close()


async def groups_of(bis: Slapd, name: str, nested: NestedGroups, depth: int = 10) -> set[str]:
    directory = Directory(bis_settings(bis, nested, depth))
    try:
        found = await directory.lookup(name)
    finally:
        directory.close()
    assert found is not None
    return set(found[0].groups)


DEEP = {"lab", *(f"depth-{n}" for n in range(1, DEPTH + 1))}
BOTH = [NestedGroups.MEMBER, NestedGroups.MEMBEROF]


@pytest.mark.parametrize("nested", BOTH)
async def test_groups_in_groups_are_followed_and_a_loop_ends(bis: Slapd, nested: NestedGroups) -> None:
    assert await groups_of(bis, "dora", nested) == DEEP
    assert await groups_of(bis, "emil", nested) == {"lab", "loop-a", "loop-b"}
    assert await groups_of(bis, "boss", nested) == {"lab", "operators"}


@pytest.mark.parametrize("nested", BOTH)
async def test_groups_deeper_than_allowed_are_no_answer(bis: Slapd, nested: NestedGroups) -> None:
    assert await groups_of(bis, "dora", nested, DEPTH - 1) == DEEP
    with pytest.raises(DirectoryUnavailable) as error:
        await groups_of(bis, "dora", nested, DEPTH - 2)
    assert "nested_depth" in error.value.log_message
    assert await groups_of(bis, "boss", nested, 0) == {"lab", "operators"}


async def test_without_nesting_only_her_own_groups_count(bis: Slapd) -> None:
    assert await groups_of(bis, "dora", NestedGroups.NONE) == {"lab", "depth-1"}
