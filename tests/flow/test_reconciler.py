"""The reconciler on a real hub: whatever is killed when, servers and rows come to agree again."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.models import LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from tests.contracts.ledger_samples import reservation
from tests.faults.aftermath import check_aftermath, watched_site
from tests.faults.leaks import SERVICES, services
from tests.flow.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

SETTINGS = """
c.Reconciler.every_s = 2
c.Reconciler.lost_start_grace_s = 1
c.Reconciler.reap_grace_s = 2
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = watched_site(more=SETTINGS)
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
        # Of all boots together: nothing was seen by others, no loop stood still.
        asyncio.run(check_aftermath(made))
    finally:
        asyncio.run(made.stop())


def row(site: Site) -> LaunchRow | None:
    return next((one for one in site.launches() if one.user_name == "ada"), None)


async def ended(site: Site, *, within_s: float = 30) -> LaunchRow:
    def now() -> LaunchRow | None:
        one = row(site)
        return one if one is not None and one.state is LaunchState.ENDED else None

    found: LaunchRow = await until(now, within_s=within_s, every_s=0.1, what="launch settled")
    return found


async def kill_hub(site: Site) -> None:
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()


async def agree(site: Site) -> bool:
    """As many servers as active rows, and as the hub has."""
    active = [one for one in site.launches() if one.state is not LaunchState.ENDED]
    states = {one.state for one in active}
    model = await site.hub.server("ada") or {"ready": False, "pending": None}
    known = int(model["ready"]) if not model["pending"] else -1
    return len(active) == len(site.servers("ada")) == known and states <= {LaunchState.RUNNING}


async def stop(site: Site) -> None:
    await site.hub.api("DELETE", "users/ada/server")
    await until(lambda: not site.servers("ada"), within_s=30, what="server gone")
    await until(lambda: agree(site), within_s=30, every_s=0.2, what="all agree")


async def test_after_a_kill_there_is_one_of_each_service_and_it_acts(site: Site) -> None:
    def one_of_each() -> bool:
        return all(len(services(site, word)) == 1 for word in SERVICES)

    for _ in range(3):
        await until(one_of_each, within_s=20, what="services run")
        await kill_hub(site)
        await until(lambda: not any(services(site, word) for word in SERVICES), within_s=10, what="services gone")
        await site.hub.start()
    await until(one_of_each, within_s=20, what="services back")
    (pid,) = services(site, "culler")

    def holds() -> bool:
        with sqlite3.connect(f"file:{site.state}/ledger.sqlite?mode=ro", uri=True) as db:
            held = db.execute("select holder from lease where name = ?", (f"culler:{site.hub_id}",)).fetchall()
        db.close()
        return bool(held) and held[0][0].startswith(f"{pid}-")

    await until(holds, within_s=20, what="the new culler has the lease of the killed one")


@pytest.mark.parametrize("state", [LaunchState.RESERVED, LaunchState.SUBMITTED, LaunchState.RUNNING])
async def test_a_hub_killed_during_a_start_leaves_rows_and_servers_equal(site: Site, state: LaunchState) -> None:
    before = {one.id for one in site.launches()}
    starting = asyncio.create_task(site.hub.api("POST", "users/ada/server"))

    def reached() -> bool:
        one = row(site)
        return one is not None and one.id not in before and one.state is state

    await until(reached, within_s=20, every_s=0.001, what=f"a launch that is {state}")
    await kill_hub(site)
    await asyncio.gather(starting, return_exceptions=True)
    left = row(site)
    assert left is not None
    pids = site.servers("ada")
    await site.hub.start()
    await until(lambda: agree(site), within_s=40, every_s=0.2, what="hub, ledger and machine agree")
    now = row(site)
    assert now is not None
    if now.state is LaunchState.ENDED:
        # Only where nothing had been started.
        assert left.handle is None
        assert now.evidence.startswith("local has nothing of this launch")
    else:
        assert now.id == left.id
        assert not pids or site.servers("ada") == pids
        await stop(site)


async def test_a_server_that_ended_while_the_hub_was_down_is_settled(site: Site) -> None:
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    await kill_hub(site)
    (pid,) = site.servers("ada")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not site.servers("ada"), what="server gone")
    await site.hub.start()
    assert (await ended(site)).evidence
    await until(lambda: agree(site), every_s=0.2, what="all agree")


async def test_what_should_stop_is_stopped_by_way_of_the_hub(site: Site) -> None:
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    one = row(site)
    assert one is not None
    ledger = site.ledger()
    ledger.set_target(one.id, Target.STOPPED, now=datetime.now(UTC), reason="over its hours", by="limit")
    ledger.close()
    assert (await ended(site)).reason == "over its hours"
    await until(lambda: agree(site), every_s=0.2, what="all agree")


async def test_a_server_without_a_launch_is_reaped(site: Site) -> None:
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    one = row(site)
    assert one is not None
    # The hub must not be what stops it.
    await kill_hub(site)
    assert site.servers("ada")
    ledger = site.ledger()
    ledger.declare_lost(one.id, by="admin:root", why="a test", now=datetime.now(UTC))
    ledger.close()
    await site.hub.start()
    await until(lambda: not site.servers("ada"), within_s=40, every_s=0.2, what="the lost server is gone")
    await until(lambda: agree(site), every_s=0.2, what="all agree")
    assert f"Reaped a server of launch {one.id}" in site.hub.log_text()


async def test_kept_logs_are_forgotten_and_their_launches_are_not(site: Site) -> None:
    """The setting is the default: 30 days, from the end of the launch."""
    ledger, now = site.ledger(), datetime.now(UTC)
    try:
        old, young = (reservation(server=f"failed-{age}") for age in (31, 29))
        for failed, age in ((old, 31), (young, 29)):
            began = now - timedelta(days=age)
            ledger.reserve(failed, now=began)
            ledger.keep_log(failed.launch_id, "last words")
            ledger.settle(failed.launch_id, code=1, reason="it crashed", evidence="exit status 1", now=began)
        await until(lambda: ledger.kept(old.launch_id).log is None, every_s=0.2, what="the old log is forgotten")
        assert ledger.kept(young.launch_id).log == "last words"
        still = ledger.get(old.launch_id)
        assert still is not None
        assert (still.state, still.reason) == (LaunchState.ENDED, "it crashed")
    finally:
        ledger.close()
