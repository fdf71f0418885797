"""Another process holds the ledger while the hub starts, stops and settles: nothing lost, the hub goes on answering."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import faulty_site
from tests.flow.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

HELD_S = 3.0
LONGER_THAN_THE_HUB_WAITS_S = 8.0


@asynccontextmanager
async def held(site: Site, for_s: float) -> AsyncIterator[None]:
    """A write transaction of somebody else, for so long."""
    db = sqlite3.connect(site.ledger_file, isolation_level=None, timeout=20, check_same_thread=False)
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


async def test_starts_and_stops_wait_and_the_loop_goes_on() -> None:
    async with faulty_site("ada", "bob") as site:
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        async with held(site, HELD_S):
            start = asyncio.create_task(site.hub.start_server("bob"))
            stop = asyncio.create_task(site.hub.api("DELETE", "users/ada/server"))
            health = [await site.hub.http("GET", f"{site.hub.hub_url}/hub/health") for _ in range(20)]
        assert [status for status, _ in health] == [200] * 20
        assert (await start)[0] in (201, 202)
        assert (await stop)[0] in (202, 204)
        await until(lambda: len(site.servers()) == 1, what="only bob's server")


async def test_an_end_is_not_lost_when_the_ledger_is_held_longer_than_a_writer_waits() -> None:
    async with faulty_site("ada", "bob") as site:
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        (pid,) = site.servers("ada")
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
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
