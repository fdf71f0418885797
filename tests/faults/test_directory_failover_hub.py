"""A real hub with two servers of its directory: while one of them answers, people sign in and start servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.aftermath import check_aftermath, faulty_site, watched_site
from tests.faults.test_directory_hub import SHORT, health, sign_in
from tests.flow.site import Site
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.hub import HubServer
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]
HELD = "c.DaasLDAPAuthenticator.hold_down_s = 3\nc.DaasLDAPAuthenticator.connect_within_s = 1\n"


@pytest.fixture
def site() -> Site:
    return watched_site(more=SHORT + HELD)


@pytest.fixture
async def ways(site: Site) -> AsyncIterator[list[FaultProxy]]:
    """Two ways to the same people."""
    proxies = [await FaultProxy(site.slapd.port).start() for _ in range(2)]
    first, second = (f"ldap://{proxy.host}:{proxy.port}" for proxy in proxies)
    site.directory_uri = first
    site.more += f"c.DaasLDAPAuthenticator.backup_server_uris = [{second!r}]\n"
    yield proxies
    for proxy in proxies:
        await proxy.stop()


@pytest.fixture
async def hub(site: Site, ways: list[FaultProxy]) -> AsyncIterator[HubServer]:
    async with faulty_site(site=site):
        yield site.hub
        for way in ways:
            way.fault = Fault.NONE


async def watched_health(hub: HubServer, *calls: asyncio.Task[object]) -> float:
    """The slowest answer of the health page until the calls are done."""
    longest = 0.0
    while not all(call.done() for call in calls):
        longest = max(longest, await health(hub))
        await asyncio.sleep(0.02)
    return longest


async def test_one_of_two_then_both_then_back(hub: HubServer, ways: list[FaultProxy], site: Site) -> None:
    for name in ("ada", "bob"):
        await site.sign_in(name)
    assert ways[1].connections == 0
    # Each meets the fault by itself, before the server is held; and the start of a server as a sign-in.
    ways[0].fault = Fault.SILENT
    login = asyncio.create_task(sign_in(hub, "boss"))
    start = asyncio.create_task(hub.api("POST", "users/bob/server"))
    assert await watched_health(hub, login, start) < 1  # type: ignore[arg-type]
    assert login.result() == (200, "")
    assert start.result()[0] in (201, 202)
    # The service's, which both may have used, and one for her password.
    assert ways[1].connections >= 2

    ways[1].fault = Fault.SILENT
    login = asyncio.create_task(sign_in(hub, "boss"))
    start = asyncio.create_task(hub.api("POST", "users/ada/server"))
    assert await watched_health(hub, login, start) < 1  # type: ignore[arg-type]
    status, said = login.result()
    assert (status, "try again" in said) == (503, True)
    # Who ada is was known a moment ago, which is enough for a day (core/access.py).
    assert start.result()[0] in (201, 202)
    assert (await hub.api("DELETE", "users/ada/server"))[0] in (202, 204)

    for way in ways:
        way.fault = Fault.NONE
    await until(lambda: _signs_in(hub), within_s=20, every_s=0.2, what="signing in works again")
    await until(lambda: _by_the_primary(hub, ways), within_s=20, every_s=0.2, what="the primary is asked again")
    assert (await hub.start_server("ada"))[0] in (201, 202)
    await check_aftermath(site)


async def _signs_in(hub: HubServer) -> bool:
    return (await sign_in(hub, "boss")) == (200, "")


async def _by_the_primary(hub: HubServer, ways: list[FaultProxy]) -> bool:
    backup = ways[1].connections
    return await _signs_in(hub) and ways[1].connections == backup
