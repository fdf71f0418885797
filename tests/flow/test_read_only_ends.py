"""A sign-in is an answer about a person, too, whatever a sweep finds or was told of her before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.link_site import LinkSite
from tests.servers.visitor import Visitor, location
from tests.waiting import until

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120)]

MORE = """
c.JupyterHub.load_roles.append({"name": "sweeps", "services": ["tests"], "scopes": ["custom:daas:hub"]})
c.Reconciler.sweep_every_s = 86400
c.DaasHub.identity_good_for_s = 0
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LinkSite]:
    made = await LinkSite(tmp_path, MORE).start()
    yield made
    await made.stop()


async def asked_to_change(who: Visitor) -> int:
    """The answer to a form, whatever is in it."""
    await who.get("/hub/home")
    answer = await who.post("/hub/daas/unlink/1", {})
    assert (answer.body.count(b"Nothing was changed") == 1) == (answer.code == 503)
    return answer.code


async def test_a_sign_in_opens_pages_before_the_next_sweep(site: LinkSite) -> None:
    before, after = site.visitor(), site.visitor()
    assert location(await site.password(before, "ada")) == "/hub/home"
    assert await asked_to_change(before) == 404
    await site.slapd.stop()
    assert (await site.hub.api("POST", "daas/sweep"))[1]["unreachable"] == 1
    assert await asked_to_change(before) == 503
    await site.slapd.run()
    assert location(await site.password(after, "ada")) == "/hub/home"
    assert [await asked_to_change(who) for who in (before, after)] == [404, 404]
    assert "nothing is changed" not in (await after.get("/hub/home")).body.decode()


@pytest.mark.parametrize("again_by", ["another link", "her password"])
async def test_who_signs_in_while_a_sweep_asks_about_her_last_sign_in_stays(site: LinkSite, again_by: str) -> None:
    """What was said of a way in that was taken away is not held against the one by which she has come since."""
    for person in ("old way", "new way"):
        site.first.people[person] = {"groups": []}
    assert location(await site.link(site.visitor(), "new way", "ada", then="/hub/home")) == "/hub/home"
    assert location(await site.link(site.visitor(), "old way", "ada", then="/hub/home")) == "/hub/home"
    assert location(await site.link(site.visitor(), "2", "bob", way="second", then="/hub/home")) == "/hub/home"
    ledger = site.ledger()
    (old,) = [
        each for account in ledger.accounts.list() for each in ledger.links.of(account.id) if each.subject == "old way"
    ]
    ledger.links.remove(old.id, by="admin:boss", now=old.made_at)
    ledger.close()
    # The sweep waits for what is said of bob; of ada it has been told already.
    site.second.faults = {"token": "hang", "userinfo": "hang"}
    asked = sum(site.second.calls.values())
    sweep = asyncio.create_task(site.hub.api("POST", "daas/sweep"))
    await until(lambda: sum(site.second.calls.values()) > asked, what="it asks about bob")
    ada = site.visitor()
    way = site.come(ada, "new way", then="/hub/home") if again_by == "another link" else site.password(ada, "ada")
    assert location(await way) == "/hub/home"
    assert not sweep.done()
    status, said = await sweep
    assert (status, said["ended"]) == (200, 0)
    assert (await ada.get("/hub/home")).code == 200
    # Nor by the next one, which asks about the way that counts.
    site.second.faults = {}
    assert (await site.hub.api("POST", "daas/sweep"))[1]["ended"] == 0
    assert (await ada.get("/hub/home")).code == 200
