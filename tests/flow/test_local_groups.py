"""Groups of the hub beside those of the directory, on a real hub with a real directory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from daas_hub.services.console.access import GROUPS_WRITE
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import BASE
from tests.servers.tiny_server import program

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(120)]

NEW = "dn: cn={group},ou=groups,{base}\nobjectClass: posixGroup\ncn: {group}\ngidNumber: {gid}\nmemberUid: {who}\n"

MORE = """
c.DaasLDAPAuthenticator.admin_groups = {"operators", "hub-admins"}
c.DaasSpawner.profile_list = [
    {"display_name": "Basic", "slug": "basic", "resources": {"cpu_limit": 1, "mem_limit": "512M"}},
    {"display_name": "Gpu", "slug": "gpu", "allowed_groups": ["gpu-users", "p-1"],
     "resources": {"cpu_limit": 1, "mem_limit": "512M"}},
]
c.JupyterHub.load_roles += [{"name": "gpu-watch", "scopes": ["read:hub"], "groups": ["gpu-users"]}]
"""
BY = {"by": "admin:test", "now": datetime(2026, 11, 21, tzinfo=UTC)}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site(cmd=list(program(reachable_python())), more=MORE)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


async def model(site: Site, name: str) -> Any:
    """What the hub says of somebody after a refresh, which every start asks for, also one that is refused."""
    assert (await site.hub.start_server(name, options={"profile": "none"}))[0] == 400
    return (await site.hub.api("GET", f"users/{name}"))[1]


def account_id(site: Site, name: str) -> str:
    """Her account, which a start has recorded."""
    ledger = site.ledger()
    try:
        row = ledger.accounts.by_user_name(name)
        assert row is not None
        return row.id
    finally:
        ledger.close()


async def start(site: Site, name: str, profile: str) -> tuple[int, Any]:
    """An administrator's token presses Start; what ran is stopped again."""
    answer = await site.hub.start_server(name, options={"profile": profile})
    if answer[0] in (201, 202):
        await site.hub.stop_server(f"users/{name}/server")
    return answer


async def test_a_local_group_opens_a_profile_and_a_role_and_gives_no_gid(site: Site) -> None:
    await site.sign_in("ada")
    assert (await start(site, "ada", "basic"))[0] in (201, 202)
    status, refused = await start(site, "ada", "gpu")
    assert (status, "not open to you" in refused["message"]) == (403, True), refused
    ledger, hers = site.ledger(), account_id(site, "ada")
    try:
        ledger.local_groups.create("gpu-users", **BY)
        before = {group.gid for group in ledger.accounts.by_id(hers).groups}
        ledger.local_groups.add_member("gpu-users", hers, **BY)
        # Nobody has come since: the start itself looks.
        assert (await start(site, "ada", "gpu"))[0] in (201, 202)
        assert site.launches()[0].groups == ("gpu-users", "lab")
        assert {group.gid for group in ledger.accounts.by_id(hers).groups} == before
        found = await model(site, "ada")
        assert sorted(found["groups"]) == ["gpu-users", "lab"]
        token = (await site.hub.api("POST", "users/ada/tokens", {}))[1]["token"]
        assert "read:hub" in (await site.hub.api("GET", "user", token=token))[1]["scopes"]
        # The identity stays what the directory says.
        assert found["auth_state"]["daas"]["identity"]["groups"] == ["lab"]

        ledger.local_groups.remove_member("gpu-users", hers, **BY)
        assert (await start(site, "ada", "gpu"))[0] == 403
        found = await model(site, "ada")
        assert found["groups"] == ["lab"]
        assert "read:hub" not in (await site.hub.api("GET", "user", token=token))[1]["scopes"]
        ledger.local_groups.delete("gpu-users", **BY)
    finally:
        ledger.close()


async def test_a_project_is_a_group_of_its_members(site: Site) -> None:
    await site.sign_in("bob")
    assert (await start(site, "bob", "basic"))[0] in (201, 202)
    ledger, his = site.ledger(), account_id(site, "bob")
    try:
        ledger.projects.set("p-1", **BY)
        ledger.projects.add_member("p-1", his, **BY)
        assert (await start(site, "bob", "gpu"))[0] in (201, 202)
        ledger.projects.set("p-1", **BY, ends_at=datetime(2026, 1, 1, tzinfo=UTC))
        assert (await start(site, "bob", "gpu"))[0] == 403
        assert "p-1" not in (await model(site, "bob"))["groups"]
    finally:
        ledger.close()


async def test_a_local_group_makes_an_administrator_and_takes_it_back(site: Site) -> None:
    await site.sign_in("dora")
    assert (await start(site, "dora", "basic"))[0] in (201, 202)
    ledger, hers = site.ledger(), account_id(site, "dora")
    try:
        assert (await model(site, "dora"))["admin"] is False
        ledger.local_groups.create("hub-admins", **BY)
        ledger.local_groups.add_member("hub-admins", hers, **BY)
        assert (await model(site, "dora"))["admin"] is True
        ledger.local_groups.remove_member("hub-admins", hers, **BY)
        assert (await model(site, "dora"))["admin"] is False
    finally:
        ledger.close()


async def test_a_directory_that_takes_a_local_name_gives_nobody_anything(site: Site) -> None:
    await site.sign_in("emil")
    ledger = site.ledger()
    try:
        ledger.local_groups.create("gpu-users", **BY)
        await site.slapd.add(NEW.format(group="gpu-users", gid=30099, base=BASE, who="emil"))
        assert "gpu-users" not in (await model(site, "emil"))["groups"]
        assert (await start(site, "emil", "gpu"))[0] == 403
        assert site.hub.log_text().count("group_name_taken: the directory has a group gpu-users") == 1
        assert "gpu-users" in {group.name for group in ledger.local_groups.directory()}
        # Deleted, it is the directory's.
        ledger.local_groups.delete("gpu-users", **BY)
        assert "gpu-users" in (await model(site, "emil"))["groups"]
        assert (await start(site, "emil", "gpu"))[0] in (201, 202)
    finally:
        ledger.close()


async def console(site: Site, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """As boss, by REST, with a token that may change groups and nothing else."""
    scopes = ["access:services!service=daas", GROUPS_WRITE]
    status, made = await site.hub.api("POST", "users/boss/tokens", {"scopes": scopes})
    assert status == 201, made
    headers = {"Authorization": f"token {made['token']}"}
    return await site.hub.http(method, f"{site.hub.url}/services/daas/api/v1/{path}", body, headers)


async def test_who_is_put_into_a_group_before_her_first_sign_in_is_in_it_then(site: Site) -> None:
    await site.sign_in("boss")
    assert (await console(site, "POST", "groups", {"name": "evening"}))[0] == 200
    status, found = await console(site, "PUT", "groups/evening/members/CARL", {"note": "shift"})
    assert (status, found["members"]) == (200, ["carl"]), found
    assert (await site.hub.api("GET", "users/carl"))[0] == 404  # the hub has nobody of this name yet
    await site.sign_in("carl")
    assert "evening" in (await site.hub.api("GET", "users/carl"))[1]["groups"]
    status, refused = await console(site, "PUT", "groups/evening/members/nobody-at-all", {})
    assert (status, refused["field"]) == (400, "user"), refused
    # boss and carl have signed in: what the directory calls their groups is known, and cannot be had.
    sources = {g["name"]: g["sources"] for g in (await console(site, "GET", "groups"))[1]["groups"]}
    assert (sources["lab"], sources["operators"], sources["evening"]) == (["directory"], ["directory"], ["local"])
    status, refused = await console(site, "POST", "groups", {"name": "operators"})
    assert (status, "is a group of the directory" in refused["message"]) == (400, True), refused
    assert (await console(site, "DELETE", "groups/evening?confirm_name=evening"))[0] == 204
    assert "evening" not in (await model(site, "carl"))["groups"]
