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


async def test_renames_and_deletions_wait_off_the_loop_and_nobody_gets_a_name_before_they_are_written() -> None:
    """The end check measures the loop: it must not have stood for a second of the three."""
    async with faulty_site("ada", "bob", "carl", "dora") as site:
        assert (await site.hub.start_server("carl"))[0] in (201, 202)
        account = next(row.account_id for row in site.launches())
        assert (await site.hub.api("DELETE", "users/carl/server"))[0] in (202, 204)
        await until(lambda: not site.servers("carl"), within_s=30, what="stopped")
        async with held(site, HELD_S):
            assert (await site.hub.api("DELETE", "users/dora"))[0] == 204
            assert (await site.hub.api("PATCH", "users/carl", {"name": "carla"}))[0] == 200
            # In the ledger carl is still the other one, whose servers and notices bob would be shown.
            status, answer = await site.hub.api("PATCH", "users/bob", {"name": "carl"})
            assert (status, answer["message"]) == (
                503,
                "The name carl was given up a moment ago. Try again in a moment.",
            )
            assert (await site.hub.api("GET", "users/bob"))[0] == 200
            assert name_of(site, account) == "carl"
        await until(lambda: name_of(site, account) == "carla", within_s=20, what="the ledger has the new name")

        async def free() -> bool:
            return (await site.hub.api("PATCH", "users/bob", {"name": "carl"}))[0] == 200

        # The hub hears of what was written a moment after it is there.
        await until(free, within_s=10, what="the name is free")


async def test_a_rename_that_a_killed_hub_could_not_write_shows_nobody_anothers_servers() -> None:
    async with faulty_site("ada", "bob") as site:
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        account = next(row.account_id for row in site.launches())
        assert (await site.hub.api("DELETE", "users/bob/server"))[0] in (202, 204)
        await until(lambda: not site.servers("bob"), within_s=30, what="stopped")
        async with held(site, HELD_S):
            assert (await site.hub.api("PATCH", "users/bob", {"name": "robert"}))[0] == 200
            site.hub.signal(signal.SIGKILL)
            await site.hub.wait_gone()
            assert name_of(site, account) == "bob"
        await site.hub.start()
        # The directory gives the name to another person, who signs in with it.
        for old, new in (("bob", "robert"), ("emil", "bob")):
            change = f"changetype: modrdn\nnewrdn: uid={new}\ndeleteoldrdn: 1\n"
            await site.slapd.modify(f"dn: {site.person(old).dn}\n{change}")
        assert (await site.login_answer("bob", site.person("emil").password))[0] == 200
        assert name_of(site, account) == ""


async def test_a_rename_that_a_killed_hub_could_not_write_is_made_up_for_while_her_server_runs() -> None:
    """Else a block of the new name would stop nothing, and a lost row of the hub be adopted for nobody."""
    async with faulty_site("ada", "bob") as site:
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        servers = site.servers("bob")
        account = next(row.account_id for row in site.launches())
        async with held(site, HELD_S):
            assert (await site.hub.api("PATCH", "users/bob", {"name": "robert"}))[0] == 200
            site.hub.signal(signal.SIGKILL)
            await site.hub.wait_gone()
            assert name_of(site, account) == "bob"
        site.hub.config += "\nc.Authenticator.blocked_users = {'robert'}\n"
        await site.hub.start()
        await until(lambda: name_of(site, account) == "robert", within_s=20, what="the ledger has the hub's name")
        assert servers
        await until(
            lambda: not site.servers("bob"), within_s=65, every_s=0.2, what="the blocked one's server is stopped"
        )


def name_of(site: Site, account_id: str) -> str:
    """What the ledger calls the user of this account."""
    ledger = site.ledger()
    try:
        account = ledger.accounts.by_id(account_id)
    finally:
        ledger.close()
    assert account is not None
    return account.user_name
