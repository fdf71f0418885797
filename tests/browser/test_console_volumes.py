"""Volumes in the console: to whom each is told, and that one which did not grow is seen by owner and administrator."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from daas_hub.db.ledger import Ledger
from daas_hub.services.console.access import QUOTA_READ
from tests.browser import seeds
from tests.servers.browser import ChromiumServer, sign_in
from tests.servers.console import PASSWORD, ConsoleHub

pytestmark = [pytest.mark.needs("node")]


async def test_volumes_are_told_to_whom_they_belong_and_to_who_may_see_everybodys(
    hub: ConsoleHub, ledger: Ledger
) -> None:
    alice, bob = seeds.account(ledger, "alice", 5001), seeds.account(ledger, "bob", 5002)
    home = seeds.volume(ledger, alice, growth="asked")
    seeds.volume(ledger, bob)
    status, mine = await hub.rest("GET", "me/volumes", token=await hub.user_token("alice"))
    assert status == 200, mine
    (one,) = mine["volumes"]
    assert (one["id"], one["user_name"], one["claim"], one["project"]) == (home.id, "alice", f"daas-{home.id}", None)
    told = one["growth"]
    assert (told["state"], told["has_bytes"], told["to_bytes"]) == ("asked", 2**30, 2 * 2**30)
    assert told["words"] == "was asked to grow from 1 GiB to 2 GiB"
    assert (await hub.rest("GET", "volumes", token=await hub.user_token("alice")))[0] == 403

    token = await hub.user_token("admin", QUOTA_READ)
    status, first = await hub.rest("GET", "volumes?limit=1", token=token)
    assert (status, len(first["volumes"])) == (200, 1)
    _, second = await hub.rest("GET", f"volumes?limit=1&before={first['next']}", token=token)
    assert {p["volumes"][0]["user_name"] for p in (first, second)} == {"alice", "bob"}
    assert second["next"] is None
    assert [v["id"] for v in (await hub.rest("GET", "volumes?growth=asked", token=token))[1]["volumes"]] == [home.id]
    assert (await hub.rest("GET", "volumes?user=nobody", token=token))[1]["volumes"] == []
    for query in ("state=gone", "growth=shrinking", "before=x"):
        status, refused = await hub.rest("GET", f"volumes?{query}", token=token)
        assert (status, refused["field"]) == (400, query.partition("=")[0]), refused


async def rows_of(page: Page, table: str) -> dict[str | None, str]:
    """Volume → the text of its row."""
    found = {}
    for row in await page.query_selector_all(f"#{table} tbody tr"):
        found[await row.get_attribute("data-volume")] = " ".join((await row.inner_text()).split())
    return found


@pytest.mark.needs("chromium")
async def test_a_volume_that_did_not_grow_is_told_to_its_owner_and_to_the_administrator(
    hub: ConsoleHub, ledger: Ledger, browser: ChromiumServer
) -> None:
    life = seeds.Volumes(ledger)
    ledger.projects.add_member("beam", seeds.account(ledger, "alice", 5001).id, by="admin:seed", now=seeds.NOW)
    said = "refused stays at 1 GiB; it should have 2 GiB, but disks of the class <slow> cannot grow"
    alice = await (await browser.person()).new_page()
    await sign_in(alice, hub.url, "alice", PASSWORD)
    await alice.goto(hub.console)
    seen = await rows_of(alice, "volumes")
    assert seen.keys() == {life.home.id, life.crew.id}
    assert said in seen[life.home.id]
    assert "beam" in seen[life.crew.id]

    admin = await (await browser.person()).new_page()
    await sign_in(admin, hub.url, "admin", PASSWORD)
    await admin.goto(hub.console)
    await admin.click("nav >> text=Volumes")
    await admin.wait_for_url("**/admin/volumes")
    seen = await rows_of(admin, "volumes")
    assert seen.keys() == {life.home.id, life.crew.id, life.growing.id, life.kept.id}
    assert said in seen[life.home.id]
    assert "resizing grows from 1 GiB to 2 GiB" in seen[life.growing.id]
    assert "carol" in seen[life.kept.id]
    assert "kept since its user was deleted" in seen[life.kept.id]
    assert "may be deleted from 2027-02-19" in seen[life.kept.id]
    await admin.select_option("#growth", "refused")
    await admin.click("button >> text=Show")
    await admin.wait_for_url("**growth=refused**")
    assert (await rows_of(admin, "volumes")).keys() == {life.home.id}
