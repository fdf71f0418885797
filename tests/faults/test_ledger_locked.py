"""Another process holds the ledger while the hub starts, stops and settles: nothing lost, the hub goes on answering."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daas_hub.core.models import ACTIVE, LaunchState
from tests.flow.site import Site
from tests.servers.hub import LOOP_MONITOR
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

HELD_S = 3.0
LONGER_THAN_THE_HUB_WAITS_S = 8.0


@asynccontextmanager
async def small_site() -> AsyncIterator[Site]:
    """A site with a tiny server and a measured loop; ada and bob signed in."""
    site = Site(proxy=False, cmd=list(program(reachable_python())), more=LOOP_MONITOR)
    try:
        await site.start()
        for name in ("ada", "bob"):
            await site.sign_in(name)
        yield site
    finally:
        await site.stop()


@asynccontextmanager
async def held(site: Site, for_s: float) -> AsyncIterator[None]:
    """A write transaction of somebody else, for so long."""
    db = sqlite3.connect(site.state / "ledger.sqlite", isolation_level=None, timeout=20, check_same_thread=False)
    db.execute("BEGIN IMMEDIATE")

    async def release() -> None:
        await asyncio.sleep(for_s)
        db.execute("ROLLBACK")

    releasing = asyncio.create_task(release())
    try:
        yield
    finally:
        await releasing
        db.close()


async def books_agree(site: Site) -> None:
    """Active rows are running servers, and every sum is right."""
    rows = [r for r in site.launches() if r.state in ACTIVE]
    assert sorted(r.handle["pid"] for r in rows if r.handle) == site.servers()
    ledger = site.ledger()
    try:
        assert ledger.recount() == []
    finally:
        ledger.close()


async def test_starts_and_stops_wait_and_the_loop_goes_on() -> None:
    async with small_site() as site:
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        site.hub.forget_gaps()
        async with held(site, HELD_S):
            start = asyncio.create_task(site.hub.start_server("bob"))
            stop = asyncio.create_task(site.hub.api("DELETE", "users/ada/server"))
            health = [await site.hub.http("GET", f"{site.hub.hub_url}/hub/health") for _ in range(20)]
        assert [status for status, _ in health] == [200] * 20
        assert (await start)[0] in (201, 202)
        assert (await stop)[0] in (202, 204)
        assert site.hub.worst_gap_s() < 1.0
        await until(lambda: len(site.servers()) == 1, what="only bob's server")
        await books_agree(site)


async def test_an_end_is_not_lost_when_the_ledger_is_held_longer_than_a_writer_waits() -> None:
    async with small_site() as site:
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        (pid,) = site.servers("ada")
        site.hub.forget_gaps()
        async with held(site, LONGER_THAN_THE_HUB_WAITS_S):
            os.kill(pid, signal.SIGKILL)
            status, answer = await site.hub.api("POST", "users/bob/server")
            assert status == 503
            assert "Try again" in answer["message"]
        await until(
            lambda: all(r.state is LaunchState.ENDED for r in site.launches()),
            within_s=30,
            every_s=0.2,
            what="the end is settled",
        )
        assert site.hub.worst_gap_s() < 1.0
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        await books_agree(site)
