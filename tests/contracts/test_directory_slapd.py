"""The contract of directories on a real OpenLDAP, by StartTLS and ldaps, with RFC 2307 and RFC 2307bis groups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.clients.directory import Address, DirectorySettings
from tests.contracts.directory import DirectoryContract, DirectorySite, Known
from tests.servers.slapd import BASE, GROUPS, PEOPLE, SERVICE_DN, SERVICE_PASSWORD, Slapd

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
