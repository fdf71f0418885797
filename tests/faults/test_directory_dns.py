"""The directory's servers by DNS: who is asked, how long an answer counts, and what happens when DNS fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.clients import directory_servers
from daas_hub.clients.directory import Directory, Verdict
from daas_hub.clients.directory_servers import Servers, look_up
from daas_hub.core.errors import DirectoryUnavailable
from daas_hub.core.failover import Tier, listed
from tests.contracts.test_directory_slapd import settings
from tests.faults.directory_site import loop_gap
from tests.servers.dns_server import DnsServer
from tests.servers.fault_proxy import FaultProxy
from tests.servers.no_blocking import no_blocking
from tests.servers.slapd import Slapd

pytestmark = pytest.mark.needs("slapd")
DOMAIN = "localhost"
"""A name that this machine knows and that is in the certificate of the tests' directory."""
NAME = f"_ldap._tcp.{DOMAIN}."


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    server = asyncio.run(Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")).start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    server = await DnsServer().start()
    yield server
    server.stop()


@pytest.fixture
async def ways(slapd: Slapd) -> AsyncIterator[list[FaultProxy]]:
    proxies = [await FaultProxy(slapd.port).start() for _ in range(2)]
    yield proxies
    for proxy in proxies:
        await proxy.stop()


def directory_of(slapd: Slapd, dns: DnsServer, *, backup: str = "") -> Directory:
    whole = settings(slapd, f"ldap://{DOMAIN}")
    resolver = dns.resolver()
    servers = Servers(
        listed([backup] if backup else [], Tier.BACKUP),
        DOMAIN,
        hold_s=60,
        look_up=lambda domain: look_up(domain, resolver),
    )
    return Directory(replace(whole, srv_domain=DOMAIN), servers)


async def signs_in(directory: Directory) -> bool:
    return (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.OK


async def test_dns_names_the_servers_in_their_order(slapd: Slapd, dns: DnsServer, ways: list[FaultProxy]) -> None:
    first, second = (way.port for way in ways)
    dns.records[NAME] = [(20, 0, second, "localhost."), (10, 0, first, "localhost."), (0, 0, first, "evil.test.")]
    directory = directory_of(slapd, dns)
    with no_blocking():
        assert await signs_in(directory)
    assert (ways[0].connections, ways[1].connections) == (2, 0)
    await ways[0].stop()
    assert await signs_in(directory)
    assert ways[1].connections == 2
    assert await directory.lookup("ada")
    # One answer of DNS was enough for all.
    assert dns.asked == 1
    # The records of an answer come in any order (RFC 2782): only who is known can be told.
    assert {server.uri for server in directory.servers.known} == {f"ldap://localhost:{p}" for p in (first, second)}
    directory.close()


async def test_when_its_time_is_over_dns_is_asked_again_and_a_new_server_is_found(
    slapd: Slapd, dns: DnsServer, ways: list[FaultProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_servers, "LEAST_TTL_S", 0.0)
    dns.ttl_s = 0
    dns.records[NAME] = [(0, 0, ways[0].port, "localhost.")]
    directory = directory_of(slapd, dns)
    assert await signs_in(directory)
    dns.records[NAME] = [(0, 0, ways[1].port, "localhost.")]
    assert await signs_in(directory)
    assert (ways[0].connections, ways[1].connections) == (2, 2)
    # DNS fails: what it said last counts on, and is not asked for again by everybody.
    dns.silent, asked = True, dns.asked
    async with loop_gap() as gap:
        assert await signs_in(directory)
        seen = dns.asked
        assert seen > asked
        assert await signs_in(directory)
    assert dns.asked == seen
    # One of the service for all, and one of her own each time.
    assert ways[1].connections == 4
    assert gap.longest_s < 1
    directory.close()


@pytest.mark.parametrize("silent", [False, True])
async def test_dns_knows_nothing_and_the_backup_answers(
    slapd: Slapd, dns: DnsServer, ways: list[FaultProxy], silent: bool
) -> None:
    dns.silent = silent
    directory = directory_of(slapd, dns, backup=f"ldap://localhost:{ways[1].port}")
    assert await signs_in(directory)
    directory.close()

    alone = directory_of(slapd, dns)
    async with loop_gap() as gap:
        for _ in range(2):
            with pytest.raises(DirectoryUnavailable, match="cannot be reached") as error:
                await alone.authenticate("ada", "ada-secret")
            assert "srv_domain" in error.value.log_message
    assert gap.longest_s < 1
    alone.close()


async def test_a_crowd_asks_dns_once(slapd: Slapd, dns: DnsServer, ways: list[FaultProxy]) -> None:
    dns.records[NAME] = [(0, 0, ways[0].port, "localhost.")]
    directory = directory_of(slapd, dns)
    assert all(await asyncio.gather(*(signs_in(directory) for _ in range(16))))
    assert dns.asked == 1
    directory.close()
