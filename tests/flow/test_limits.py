"""Limits on servers, cores and memory at once, and a group's total that different people share, on a real hub."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from daas_hub.core.models import ACTIVE, LaunchState, Resource, Who
from daas_hub.db.ledger import Ledger
from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

GIB = 2**30
OF_GROUP = ("ada", "bob", "boss", "carl", "dora", "emil")
"""Everybody of the group lab who can sign in."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """No pass of the reconciler after the first: what changes in the ledger, a start has changed."""
    made = Site(proxy=False, cmd=list(program(reachable_python())), more="c.Reconciler.every_s = 3600")
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


@pytest_asyncio.fixture
async def ledger(site: Site) -> AsyncIterator[Ledger]:
    """The hub's ledger; afterwards without servers, without limits, and with balances that equal its rows."""
    opened = site.ledger()
    try:
        yield opened
        await site.stop_servers()
        await until(lambda: not opened.launches(states=ACTIVE), within_s=30, what="all launches settled")
        for limit in opened.limits.list():
            opened.limits.delete(limit.id, by="test", now=datetime.now(UTC))
        assert opened.recount() == []
    finally:
        opened.close()


def limit(ledger: Ledger, who: Who, resource: Resource, amount: float) -> None:
    ledger.limits.set(who, "lab", resource, amount, by="test", now=datetime.now(UTC))


def books(site: Site) -> list[list[tuple[Any, ...]]]:
    """What the ledger holds about admission: every launch and its state, its scopes, intervals and balances."""
    tables = (
        "select id, state, target, profile from launch",
        "select * from launch_scope",
        "select * from usage",
        "select * from balance",
    )
    with sqlite3.connect(f"file:{site.state}/ledger.sqlite?mode=ro", uri=True) as db:
        rows = [sorted(db.execute(query).fetchall(), key=repr) for query in tables]
    db.close()
    return rows


async def test_a_start_over_the_memory_limit_is_refused_and_a_smaller_profile_starts(
    site: Site, ledger: Ledger
) -> None:
    limit(ledger, Who.GROUP_EACH, Resource.SERVERS, 3)
    limit(ledger, Who.GROUP_EACH, Resource.CORES, 8)
    limit(ledger, Who.GROUP_EACH, Resource.MEMORY_BYTES, 1.5 * GIB)
    ada = Visitor(site.hub.hub_url)
    await ada.sign_in({"name": "ada", "password": site.person("ada").password})
    assert (await site.hub.start_server("ada", options={"profile": "basic"}))[0] in (201, 202)
    before, processes = books(site), site.servers("ada")
    # Of servers and cores enough is left. Basic needs 1 GiB again, of which half is left: only Small fits.
    said = (
        "This start needs 2 GiB, but the limit for each member of group lab is 1.5 GiB at once and 1 GiB is in use. "
        "This would fit now: Small."
    )
    status, answer = await site.hub.api("POST", "users/ada/servers/more", {"profile": "large"})
    assert (status, answer["message"]) == (403, said)
    status, page = await ada.call("POST", "/hub/spawn/ada/more", {"profile": "large", "_xsrf": ada.xsrf()}, form=True)
    assert status == 403
    assert said in page
    assert 'name="profile"' in page, "the form is there again, to choose another one"
    assert books(site) == before
    assert site.servers("ada") == processes

    status, _ = await ada.call("POST", "/hub/spawn/ada/more", {"profile": "small", "_xsrf": ada.xsrf()}, form=True)
    assert status < 400, "its progress, or already the way to it"

    async def ready() -> bool:
        model = await site.hub.server("ada", "more")
        return bool(model and model["ready"])

    await until(ready, within_s=60, every_s=0.1, what="the smaller server")
    running = {row.server_name: row for row in site.launches() if row.state is LaunchState.RUNNING}
    assert {name: row.profile for name, row in running.items()} == {"": "basic", "more": "small"}
    account = running["more"].account_id
    used = {line.limit.resource: line.used for line in ledger.limits.effective(account, ["lab"])}
    assert used == {Resource.SERVERS: 2, Resource.CORES: 1.5, Resource.MEMORY_BYTES: 1.5 * GIB}


async def test_where_nothing_fits_it_says_which_server_to_stop(site: Site, ledger: Ledger) -> None:
    """All limits that are in the way are told, by form and by REST in the same words; no card gives empty advice."""
    limit(ledger, Who.GROUP_EACH, Resource.SERVERS, 1)
    limit(ledger, Who.GROUP_EACH, Resource.MEMORY_BYTES, 1.5 * GIB)
    ada = Visitor(site.hub.hub_url)
    await ada.sign_in({"name": "ada", "password": site.person("ada").password})
    assert (await site.hub.start_server("ada", "one", {"profile": "basic"}))[0] in (201, 202)
    said = (
        "This start would be 1 server more, but the limit for each member of group lab is 1 server at once and "
        "1 server is in use. It would also pass the limit for each member of group lab of 1.5 GiB (1 GiB in use, "
        "1 GiB asked). No profile would fit now. Stopping your server one would help."
    )
    status, answer = await site.hub.api("POST", "users/ada/server", {"profile": "basic"})
    assert (status, answer["message"]) == (403, said)
    status, page = await ada.call("POST", "/hub/spawn/ada", {"profile": "basic", "_xsrf": ada.xsrf()}, form=True)
    assert status == 403
    assert said in page
    # Large is bigger than the limit itself; the others would start if hers were stopped.
    assert page.count("Over your limit just now. Stopping your server one would help.") == 2
    assert page.count("Over your limit just now. Only an administrator can change that.") == 1
    assert "profile that fits" not in page


async def test_six_people_at_once_and_a_total_of_three_for_their_group(site: Site, ledger: Ledger) -> None:
    limit(ledger, Who.GROUP_TOTAL, Resource.SERVERS, 3)
    for name in OF_GROUP:
        await site.sign_in(name)
    answers = await asyncio.gather(*(site.hub.api("POST", f"users/{name}/server") for name in OF_GROUP))
    said = (
        "This start would be 1 server more, but the limit for all members of group lab together is 3 servers at once "
        "and 3 servers are in use. No profile would fit now. "
        "No server of yours that could be stopped is enough: wait until others end, or ask an administrator."
    )
    refused = [name for name, (status, _) in zip(OF_GROUP, answers, strict=True) if status == 403]
    admitted = [name for name, (status, _) in zip(OF_GROUP, answers, strict=True) if status in (201, 202)]
    assert (len(admitted), len(refused)) == (3, 3), answers
    assert [answer["message"] for status, answer in answers if status == 403] == [said] * 3

    def running() -> list[str]:
        return sorted(row.user_name for row in site.launches() if row.state is LaunchState.RUNNING)

    await until(lambda: running() == sorted(admitted), within_s=60, every_s=0.1, what="three servers run")
    assert len(site.servers()) == 3
    assert [len(site.servers(name)) for name in admitted] == [1, 1, 1]

    leaving, coming, late = admitted[0], refused[0], refused[1]
    await site.hub.stop_server(f"users/{leaving}/server")
    assert (await site.hub.start_server(coming))[0] in (201, 202)
    status, answer = await site.hub.start_server(late)
    assert (status, answer["message"]) == (403, said)
    assert running() == sorted([*admitted[1:], coming])
    assert len(site.servers()) == 3
