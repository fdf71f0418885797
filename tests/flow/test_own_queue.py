"""The hub's own queue: a local machine whose room is taken, who goes next, who gives up, and a hub that is killed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from daas_hub.core.models import LaunchState
from daas_hub.core.turns import RESTARTED
from daas_hub.db.ledger import LaunchRow
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(240)]
FULL = "This machine: it is full: 1 core needed, 0 cores of 1 free."
PEOPLE = ("ada", "bob", "carl", "dora")
NARROW_WAIT_S = 3
MORE = f"""
c.DaasHub.backends = {{
    "local": "daas_hub.backends.local.LocalBackend",
    "narrow": "tests.flow.placing.NarrowBackend",
}}
c.LocalBackend.room_cores = 1
c.NarrowBackend.room_cores = 0
c.NarrowBackend.max_starting = 1
c.NarrowBackend.queue_wait_s = {NARROW_WAIT_S}
c.Reconciler.lease_s = 3
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0.5}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """Everybody's server comes up once ``go`` is in her home."""
    made = Site(cmd=list(program(reachable_python(), until="{HOME}/go")), more=MORE)
    made.more += f"\nc.NarrowBackend.runtime_dir = {str(made.run / 'narrow')!r}\n"
    try:
        await made.start()
        for name in PEOPLE:
            await made.sign_in(name)
            person = made.person(name)
            made.home(name).mkdir(mode=0o700)
            os.chown(made.home(name), person.uid, person.gid)
            (made.home(name) / "go").touch()
        yield made
    finally:
        await made.stop()


def launch(site: Site, user: str, server: str = "") -> LaunchRow:
    """The newest launch of a server."""
    return next(row for row in site.launches() if (row.user_name, row.server_name) == (user, server))


def states(site: Site) -> dict[str, str]:
    """Owner and server → the state of each launch that has not ended."""
    active = [row for row in site.launches() if row.state is not LaunchState.ENDED]
    return {f"{row.user_name}{row.server_name}": str(row.state) for row in active}


def said(site: Site, user: str) -> list[str]:
    """The steps of her newest start."""
    ledger = site.ledger()
    try:
        return [event.message for _, event in ledger.events(launch(site, user).id)]
    finally:
        ledger.close()


async def begin(site: Site, user: str, name: str = "", **options: Any) -> None:
    path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
    status, answer = await site.hub.api("POST", path, {"profile": "basic", "placement": "local", **options})
    assert status in (201, 202), answer


async def reach(site: Site, **wanted: str) -> None:
    await until(lambda: states(site) == wanted, within_s=60, what=f"{wanted}")


@pytest.mark.asyncio(loop_scope="module")
async def test_who_finds_no_room_waits_in_the_order_of_use_and_can_give_up(site: Site) -> None:
    await begin(site, "ada")
    await reach(site, ada="running")
    # She has used something today, the others nothing: they go first, though her second server waits longer.
    await begin(site, "ada", "more")
    await reach(site, ada="running", adamore="queued")
    await begin(site, "bob")
    await reach(site, ada="running", adamore="queued", bob="queued")
    await begin(site, "dora")
    await reach(site, ada="running", adamore="queued", bob="queued", dora="queued")
    wait = "Waiting in this hub's own queue, "
    await until(lambda: f"{wait}number 2 in line. {FULL}" in said(site, "dora"), what="dora is told her place")
    assert f"{wait}next in line. {FULL}" in said(site, "bob")
    kept = launch(site, "bob").request["placement"]
    assert kept["reason"].endswith("Nothing has room just now: it waits in the queue there.")
    assert (await site.hub.server("bob") or {})["pending"] == "spawn"
    # Where no mail is sent none is offered.
    assert 'type="checkbox" id="daas-mail-wished"' not in await site.page("bob", "/hub/spawn-pending/bob")
    # A reservation counts while it waits.
    ledger = site.ledger()
    assert ledger.recount() == []
    ledger.close()
    # Bob gives up: he is gone at once, and dora is next.
    status, answer = await site.hub.api("DELETE", "users/bob/server")
    assert status in (202, 204), answer
    await reach(site, ada="running", adamore="queued", dora="queued")
    assert launch(site, "bob").reason == "the start was cancelled"
    await until(lambda: f"{wait}next in line. {FULL}" in said(site, "dora"), what="dora is next")
    await site.hub.stop_server("users/ada/server")
    await reach(site, adamore="queued", dora="running")
    assert len(site.servers()) == 1
    await site.hub.stop_server("users/dora/server")
    await reach(site, adamore="running")
    await site.hub.stop_server("users/ada/servers/more")
    await reach(site)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_larger_than_the_room_is_refused_and_does_not_wait(site: Site) -> None:
    status, answer = await site.hub.api("POST", "users/ada/server", {"profile": "large", "placement": "local"})
    assert status == 400
    assert "This machine: it is too small: 4 cores needed, the largest has 1 core" in answer["message"]
    assert states(site) == {}
    for wish, words in ((True, "DaasAuthenticator.mail_host"), ("yes", "true or false is needed")):
        status, answer = await site.hub.api("POST", "users/ada/server", {"profile": "small", "mail_when_ready": wish})
        assert (status, answer["message"].startswith("mail_when_ready: ")) == (400, True)
        assert words in answer["message"]
    assert states(site) == {}
    # What was refused is not asked again by a start without a choice.
    await site.hub.start_server("ada")
    await site.hub.stop_server("users/ada/server")
    await reach(site)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hub_that_is_killed_queues_everybody_again_in_their_places(site: Site) -> None:
    await begin(site, "ada")
    await reach(site, ada="running")
    await begin(site, "carl")
    await reach(site, ada="running", carl="queued")
    await begin(site, "bob")
    await reach(site, ada="running", carl="queued", bob="queued")
    before = {name: launch(site, name) for name in ("carl", "bob")}
    site.hub.signal(9)
    await site.hub.wait_gone()
    await site.hub.start()
    # Nobody presses anything: the reconciler asks the hub for both.
    await until(
        lambda: all(launch(site, name).id != row.id for name, row in before.items()),
        within_s=60,
        what="both are queued again",
    )
    await reach(site, ada="running", carl="queued", bob="queued")
    old = {row.id: row for row in site.launches()}
    for name, row in before.items():
        assert (old[row.id].state, old[row.id].reason) == (LaunchState.ENDED, RESTARTED)
        assert launch(site, name).request["queued_since"] == row.created_at.isoformat()
    first = "Waiting in this hub's own queue, next in line. "
    await until(lambda: first + FULL in said(site, "carl"), within_s=30, what="carl is next, as he was")
    await site.hub.stop_server("users/ada/server")
    await reach(site, carl="running", bob="queued")
    await site.hub.stop_server("users/carl/server")
    await reach(site, bob="running")
    await site.hub.stop_server("users/bob/server")
    await reach(site)


@pytest.mark.asyncio(loop_scope="module")
async def test_one_start_at_a_time_where_the_site_wants_it_and_a_wait_that_is_too_long(site: Site) -> None:
    (site.home("dora") / "go").unlink()
    await begin(site, "dora", placement="narrow")
    await reach(site, dora="submitted")
    await begin(site, "bob", placement="narrow")
    await reach(site, dora="submitted", bob="queued")
    words = "Waiting in this hub's own queue, next in line. Narrow: 1 server is being started there already."
    await until(lambda: words in said(site, "bob"), what="bob is told why")
    # Somewhere else nobody waits because of it.
    await begin(site, "carl")
    await reach(site, dora="submitted", carl="running")
    row = launch(site, "bob")
    assert row.reason.startswith(f"No turn came within {NARROW_WAIT_S} s in this hub's own queue for narrow.")
    assert row.reason in said(site, "bob")
    (site.home("dora") / "go").touch()
    await reach(site, dora="running", carl="running")
    # What runs is not being started any more.
    await begin(site, "bob", placement="narrow")
    await reach(site, dora="running", carl="running", bob="running")
    assert not any("own queue" in step for step in said(site, "bob"))
    for name in ("dora", "carl", "bob"):
        await site.hub.stop_server(f"users/{name}/server")
    await reach(site)
