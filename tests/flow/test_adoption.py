"""Servers that outlive their hub's memory: the same process and the same kernel afterwards, whatever else changed."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import check_aftermath, watched_site
from tests.flow.site import Site
from tests.servers.adopt import adopt
from tests.servers.reachable_python import singleuser
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Real JupyterLab servers, because a kernel must be the same afterwards; no reconciler, so that the test adopts."""
    made = watched_site(cmd=[singleuser()], more="c.Reconciler.every_s = 3600\n")
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
        # Of all boots together, and of real kernels.
        asyncio.run(check_aftermath(made))
    finally:
        asyncio.run(made.stop())


async def forget(site: Site) -> None:
    """The hub dies, and its database no longer has the server."""
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    with sqlite3.connect(site.state / "jupyterhub.sqlite") as db:
        db.execute("DELETE FROM servers WHERE id IN (SELECT server_id FROM spawners)")
        db.execute("UPDATE spawners SET state = '{}', server_id = NULL")
    db.close()


def kernels(site: Site, token: str, path: str = "api/kernels", body: bytes | None = None) -> Any:
    """Ask the server itself, with the token that it holds."""
    (row,) = [r for r in site.launches() if r.state is LaunchState.RUNNING]
    assert row.handle is not None
    url = f"http://127.0.0.1:{row.handle['port']}/user/ada/{path}"
    request = urllib.request.Request(url, data=body, headers={"Authorization": f"token {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


async def start_with_kernel(site: Site) -> tuple[list[int], str, str]:
    """A server with one kernel: its pids, a token of its owner, the kernel's id."""
    assert (await site.hub.start_server("ada", options={"profile": "small"}))[0] in (201, 202)
    status, made = await site.hub.api("POST", "users/ada/tokens", {"note": "test"})
    assert status == 201, made
    kernel = await asyncio.to_thread(kernels, site, made["token"], "api/kernels", b"{}")
    return site.servers("ada"), made["token"], kernel["id"]


async def same(site: Site, pids: list[int], token: str, kernel: str) -> None:
    """The same process, the same kernel; the hub serves it; the owner still gets in."""
    model = await site.hub.server("ada")
    assert model is not None
    assert model["ready"]
    assert site.servers("ada") == pids
    found = await asyncio.to_thread(kernels, site, token)
    assert [k["id"] for k in found] == [kernel]
    (row,) = [r for r in site.launches() if r.state is LaunchState.RUNNING]
    assert row.profile == "small"


async def stop(site: Site) -> None:
    assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
    await until(lambda: not site.servers("ada"), within_s=20, what="stopped")


async def test_adopted_after_its_profile_was_removed(site: Site) -> None:
    pids, token, kernel = await start_with_kernel(site)
    await forget(site)
    before = site.hub.config
    site.hub.config = before.replace('"slug": "small"', '"slug": "tiny"')
    await site.hub.start()
    status, answer = await site.hub.start_server("ada", options={"profile": "large"})
    assert status in (201, 202), answer
    await same(site, pids, token, kernel)
    site.hub.signal(signal.SIGTERM)
    await site.hub.wait_gone()
    site.hub.config = before
    await site.hub.start()
    await same(site, pids, token, kernel)
    await stop(site)


async def test_adopted_with_stored_options_that_no_longer_parse(site: Site) -> None:
    pids, token, kernel = await start_with_kernel(site)
    await forget(site)
    with sqlite3.connect(site.state / "jupyterhub.sqlite") as db:
        db.execute("UPDATE spawners SET user_options = ?", (json.dumps({"profile": ["no", {"such": "thing"}]}),))
    db.close()
    await site.hub.start()
    status, answer = await site.hub.start_server("ada")
    assert status in (201, 202), answer
    await same(site, pids, token, kernel)
    model = await site.hub.server("ada")
    assert model is not None
    assert model["user_options"] == {"profile": "small"}
    await stop(site)


async def test_not_stopped_when_the_proxy_refuses_it(site: Site) -> None:
    pids, token, kernel = await start_with_kernel(site)
    await forget(site)
    flag = site.state / "refuse_routes"
    flag.touch()
    before = site.hub.config
    site.hub.config = before + REFUSING.format(flag=flag)
    await site.hub.start()
    await site.hub.api("POST", "users/ada/server")

    async def given_up() -> bool:
        model = await site.hub.server("ada")
        return bool(model and model["stopped"] and not model["pending"])

    await until(given_up, within_s=40, every_s=0.2, what="the hub gave the adoption up")
    assert site.servers("ada") == pids
    flag.unlink()
    status, answer = await site.hub.start_server("ada")
    assert status in (201, 202), answer
    await same(site, pids, token, kernel)
    await stop(site)
    site.hub.signal(signal.SIGTERM)
    await site.hub.wait_gone()
    site.hub.config = before
    await site.hub.start()


async def test_adopted_by_the_command_after_the_hubs_database_was_deleted(site: Site) -> None:
    """Nobody signs in: users, servers, tokens and OAuth clients come from the ledger, the kernel is the same one."""
    pids, _, kernel = await start_with_kernel(site)
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    for file in site.state.glob("jupyterhub.sqlite*"):
        file.unlink()
    await site.hub.start()
    status, said = await adopt(site.hub, "--dry-run")
    assert status == 3, said
    assert (await site.hub.api("GET", "users"))[1] == []
    status, said = await adopt(site.hub)
    assert status == 0, said
    assert "The hub serves 1 of 1 servers." in said
    status, made = await site.hub.api("POST", "users/ada/tokens", {"note": "test"})
    assert status == 201, made
    await same(site, pids, made["token"], kernel)
    assert (await adopt(site.hub, "--dry-run"))[0] == 0
    await site.sign_in("ada")
    await stop(site)


REFUSING = """
import os
class _Refusing(_NoProxy):
    async def add_route(self, routespec, target, data):
        if "/user/" in routespec and os.path.exists("{flag}"):
            raise RuntimeError("the proxy refuses")
        await super().add_route(routespec, target, data)
c.JupyterHub.proxy_class = _Refusing
"""


async def test_a_person_finds_her_server_after_a_rename(site: Site) -> None:
    """Names are labels: after the user was renamed her next start is her own account and home again."""
    await site.sign_in("bob")
    assert (await site.hub.start_server("bob", "work"))[0] in (201, 202)
    await site.hub.stop_server("users/bob/servers/work")
    status, answer = await site.hub.api("PATCH", "users/bob/servers/work", {"name": "thesis"})
    assert status == 200, answer
    assert (await site.hub.start_server("bob", "thesis"))[0] in (201, 202)
    rows = [r for r in site.launches() if r.user_name == "bob"]
    assert {r.account_id for r in rows} == {rows[0].account_id}
    await site.hub.stop_server("users/bob/servers/thesis")
    status, answer = await site.hub.api("PATCH", "users/bob", {"name": "robert"})
    assert status == 200, answer
    assert (await site.hub.start_server("robert"))[0] in (201, 202)
    (row,) = [r for r in site.launches() if r.user_name == "robert"]
    assert row.account_id == rows[0].account_id
    assert len(site.servers("bob")) == 1
    await site.hub.stop_server("users/robert/server")
    assert (await site.hub.api("PATCH", "users/robert", {"name": "bob"}))[0] == 200
