"""Groups in the console: every source in one list, local ones changed, and rights that are for one group only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Page

from daas_hub.db.ledger import Ledger
from daas_hub.services.console.access import AUDIT_READ, GROUPS_READ, GROUPS_WRITE, QUOTA_WRITE
from tests.browser import seeds
from tests.servers.browser import axe, sign_in
from tests.servers.console import PASSWORD, ConsoleHub
from tests.servers.console import Person as Visitor

pytestmark = [pytest.mark.needs("node")]


@pytest.fixture(scope="module", autouse=True)
def seeded(hub: ConsoleHub) -> None:
    """Once for the module's hub."""
    ledger = Ledger.open(hub.ledger_url)
    seeds.groups(ledger, seeds.account(ledger, "alice", 5001))
    seeds.account(ledger, "bob", 5002)
    ledger.close()


def members(ledger: Ledger, group: str) -> list[str]:
    """User names."""
    found = ledger.local_groups.get(group)
    accounts = [ledger.accounts.by_id(id) for id in (found.members if found else ())]
    return sorted(account.user_name for account in accounts if account is not None)


async def test_every_group_is_listed_with_its_source_and_members(hub: ConsoleHub) -> None:
    token = await hub.user_token("admin", GROUPS_READ)
    status, found = await hub.rest("GET", "groups", token=token)
    assert status == 200, found
    rows = {g["name"]: (g["sources"], g["members"], g["left_out"]) for g in found["groups"]}
    assert rows == {
        "Jupyter Users": (["directory"], 0, False),
        "gpu-users": (["local"], 1, False),
        "lab": (["hub"], 2, False),
        "p-2026": (["project"], 1, False),
        "twice": (["local"], 0, True),
    }
    for name, who in {"gpu-users": ["alice"], "lab": ["alice", "bob"], "p-2026": ["alice"]}.items():
        assert (await hub.rest("GET", f"groups/{name}", token=token))[1]["members"] == who
    assert (await hub.rest("GET", "groups/Jupyter%20Users", token=token))[0] == 200
    assert (await hub.rest("GET", "groups/nothing", token=token))[0] == 404


async def test_a_local_group_is_made_filled_and_deleted(hub: ConsoleHub, ledger: Ledger) -> None:
    token = await hub.user_token("admin", GROUPS_WRITE, AUDIT_READ)

    async def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await hub.rest(method, path, body, token=token)

    status, made = await call("POST", "groups", {"name": "beam", "description": "b", "note": "ticket 9"})
    assert (status, made["group"]["sources"], made["members"]) == (200, ["local"], []), made
    for name in ("beam", "Beam", "jupyter users", "twice", "p-2026", "", "a/b"):
        status, refused = await call("POST", "groups", {"name": name})
        assert (status, refused["field"]) == (400, "name"), refused
    for _ in range(2):
        status, found = await call("PUT", "groups/beam/members/bob", {"note": "shift"})
        assert (status, found["members"]) == (200, ["bob"]), found
    # Nobody can be looked up where people sign in without a directory.
    assert (await call("PUT", "groups/beam/members/nobody", {}))[1]["field"] == "user"
    # The members of other groups are changed where they come from.
    for other, words in {"p-2026": "is a project", "Jupyter%20Users": "group of the directory"}.items():
        status, refused = await call("PUT", f"groups/{other}/members/bob", {})
        assert (status, words in refused["message"]) == (400, True), refused
    assert (await call("PUT", "groups/lab/members/bob", {}))[0] == 404
    assert (await call("DELETE", "groups/beam/members/alice"))[0] == 404
    assert (await call("DELETE", "groups/beam/members/bob?note=gone"))[0] == 204
    assert members(ledger, "beam") == []
    status, refused = await call("DELETE", "groups/beam")
    assert (status, refused["field"]) == (400, "confirm_name")
    assert (await call("DELETE", "groups/p-2026?confirm_name=p-2026"))[0] == 400
    assert (await call("DELETE", "groups/beam?confirm_name=beam"))[0] == 204
    assert (await call("GET", "groups/beam"))[0] == 404
    rows = (await call("GET", "audit?limit=4"))[1]["rows"]
    assert [(row["action"], row["about"], row["why"]) for row in rows] == [
        ("local_group_delete", "group beam", ""),
        ("local_group_member_remove", "group beam: bob", "gone"),
        ("local_group_member_add", "group beam: bob", "shift"),
        ("local_group_create", "group beam", "ticket 9"),
    ]
    assert {row["who"] for row in rows} == {"admin:admin"}


async def test_a_right_for_one_group_ends_at_this_group(hub: ConsoleHub, ledger: Ledger) -> None:
    ledger.local_groups.create("mine", by="admin:test", now=seeds.NOW)
    before = (ledger.local_groups.get("gpu-users"), ledger.local_groups.get("twice"))
    try:
        token = await hub.user_token("admin", f"{GROUPS_WRITE}!group=mine")
        status, found = await hub.rest("GET", "groups", token=token)
        assert (status, [g["name"] for g in found["groups"]]) == (200, ["mine"])
        assert (await hub.rest("PUT", "groups/mine/members/bob", {}, token=token))[1]["members"] == ["bob"]
        assert (await hub.rest("DELETE", "groups/mine/members/bob", token=token))[0] == 204
        for method, path, body in (
            ("POST", "groups", {"name": "more"}),
            ("DELETE", "groups/mine?confirm_name=mine", None),
            ("GET", "groups/gpu-users", None),
            ("GET", "groups/nothing", None),
            ("GET", "groups/mine%2F", None),
            ("GET", "groups/Mine", None),
            ("PUT", "groups/gpu-users/members/bob", {}),
            ("PUT", "groups/mine%20/members/bob", {}),
            ("DELETE", "groups/gpu-users/members/alice", None),
            ("DELETE", "groups/gpu-users?confirm_name=gpu-users", None),
        ):
            status, refused = await hub.rest(method, path, body, token=token)
            assert (status, refused["reason"]) == (403, "not_allowed"), (method, path, refused)
        for other in (f"{GROUPS_READ}!group=mine", f"{GROUPS_WRITE}!user=bob", f"{GROUPS_WRITE}!user", QUOTA_WRITE):
            weak = await hub.user_token("admin", other)
            assert (await hub.rest("PUT", "groups/mine/members/bob", {}, token=weak))[0] == 403, other
        # The hub's own scopes on groups are not ours.
        theirs = await hub.user_token("admin", "admin:groups!group=mine", "groups", "list:groups", "read:groups")
        assert (await hub.rest("GET", "groups", token=theirs))[0] == 403
        assert (await hub.rest("PUT", "groups/mine/members/bob", {}, token=theirs))[0] == 403
        assert (ledger.local_groups.get("gpu-users"), ledger.local_groups.get("twice")) == before
        assert members(ledger, "mine") == []
    finally:
        ledger.local_groups.delete("mine", by="admin:test", now=seeds.NOW)


@pytest.mark.needs("chromium")
async def test_an_administrator_makes_fills_and_deletes_a_group_by_keyboard(
    hub: ConsoleHub, ledger: Ledger, phone_page: Page
) -> None:
    page = phone_page
    await sign_in(page, hub.url, "admin", PASSWORD, then="/services/daas/admin/groups")
    assert "counts for nobody here" in await page.inner_text("[data-left-out=twice]")
    assert "may <b>use</b> {{7*7}} GPUs" in await page.inner_text("[data-group=gpu-users]")
    await page.focus("#name")
    await page.keyboard.type("P-2026")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#problem")
    assert "lower-case letters" in await page.inner_text("#problem")
    assert await axe(page) == []
    await page.fill("#name", "evening")
    await page.focus("#name")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin/groups/evening?done=group-made")
    await page.focus("#user")
    await page.keyboard.type("bob")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**done=member-added")
    assert members(ledger, "evening") == ["bob"]
    await page.focus("[data-member=bob] button")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**done=member-removed")
    assert members(ledger, "evening") == []
    await page.focus("#confirm_name")
    await page.keyboard.type("morning")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#problem")
    assert "is not the name of this group" in await page.inner_text("#problem")
    assert await axe(page) == []
    await page.fill("#confirm_name", "evening")
    await page.focus("#confirm_name")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/admin/groups?done=group-deleted")
    assert ledger.local_groups.get("evening") is None


async def test_whoever_has_no_right_sees_no_page(hub: ConsoleHub) -> None:
    alice = await asyncio.to_thread(Visitor(hub).sign_in, "alice")
    for path in ("admin/groups", "admin/groups/gpu-users"):
        status, _, text = await asyncio.to_thread(alice.request, "GET", hub.console + path)
        assert (status, "open only to those" in text) == (403, True), path
