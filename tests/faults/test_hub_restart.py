"""The hub is restarted again and again, three ways, at every moment of a server's life: ledger and machine agree."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.faults.aftermath import agreed, check_aftermath, watched_site
from tests.faults.leaks import SERVICES, services
from tests.flow.site import Site
from tests.waiting import LONG, until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(600)]

WAYS = ("SIGTERM", "SIGKILL", "unit")
MOMENTS = ("start", "running", "stopping")
ROUNDS = 20 if LONG else len(WAYS) * len(MOMENTS)
"""In every run each way at each moment; in the long one twenty."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site whose servers are small, so that many rounds fit; the reconciler looks every 2 s instead of 60."""
    made = watched_site()
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


async def end_hub(site: Site, way: str) -> None:
    """SIGTERM; SIGKILL; or all of the unit's processes at once, as systemd's KillMode=control-group does."""
    if way == "unit":
        for word in SERVICES:
            for pid in services(site, word):
                os.kill(pid, signal.SIGTERM)
    site.hub.signal(signal.SIGKILL if way == "SIGKILL" else signal.SIGTERM)
    await site.hub.wait_gone()


async def test_restarts(site: Site) -> None:
    dice = random.Random(20)
    for number in range(ROUNDS):
        way, moment = WAYS[number % len(WAYS)], MOMENTS[(number // len(WAYS)) % len(MOMENTS)]
        before = site.servers("ada")
        calls: list[asyncio.Task[object]] = []
        if moment == "start" and not before:
            calls.append(asyncio.create_task(quietly(site.hub.api("POST", "users/ada/server"))))
            await asyncio.sleep(dice.uniform(0.0, 0.6))
        elif moment == "stopping" and before:
            calls.append(asyncio.create_task(quietly(site.hub.api("DELETE", "users/ada/server"))))
            await asyncio.sleep(dice.uniform(0.0, 0.3))
        elif not before:
            assert (await site.hub.start_server("ada"))[0] in (201, 202)
            before = site.servers("ada")
        await end_hub(site, way)
        await asyncio.gather(*calls)
        await site.hub.start()
        await agreed(site)
        if moment == "running":
            assert site.servers("ada") == before, f"round {number}: {way} lost the server"
            assert await until(lambda: ready(site), within_s=40, every_s=0.2, what="the hub knows it again")
        if moment == "stopping" and site.servers("ada"):
            # The request may have been too late for the hub; then the server simply goes on.
            assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204, 400, 404)
            await agreed(site)
    await check_aftermath(site)


async def ready(site: Site) -> bool:
    model = await site.hub.server("ada")
    return bool(model and model["ready"])


async def quietly(call: object) -> object:
    """A call during which the hub dies."""
    try:
        return await call  # type: ignore[misc]
    except OSError as error:
        return error


async def test_after_a_kill_there_is_one_of_each_service_within_30_s(site: Site) -> None:
    await end_hub(site, "SIGKILL")
    began = time.monotonic()
    await site.hub.start()

    def one_of_each() -> bool:
        return [len(services(site, word)) for word in SERVICES] == [1, 1, 1]

    await until(one_of_each, within_s=max(1, 30 - (time.monotonic() - began)), every_s=0.2, what="one of each service")
    await check_aftermath(site)
