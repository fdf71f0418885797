"""Who left is out without a request of hers: cookies, tokens, an open websocket and the server; homes are kept.

Real hub, real proxy, real slapd, JupyterLab as her uid, the sweep at a small interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from daas_hub.core.models import LaunchState
from daas_hub.db.audit import AuditRow
from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.servers.kernels import ServerApi
from tests.servers.slapd import BASE
from tests.servers.websockets import hang_up
from tests.waiting import LONG, until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(900 if LONG else 240)]

SWEEP_S = 120 if LONG else 2
"""In the long form the default: whoever left is out within five minutes of that."""
STOP_S = 50
"""What a stop may take at most; the rest is done with the sweep itself."""
GRACE_S = 2
MORE = f"""
c.Reconciler.sweep_every_s = {SWEEP_S}
c.DaasHub.closed_profile_grace_s = {GRACE_S}
c.DaasSpawner.profile_list[2]["allowed_groups"] = ["beam"]
"""
DISABLED = "changetype: modify\nadd: objectClass\nobjectClass: shadowAccount\n-\nadd: shadowExpire\nshadowExpire: 1\n"
ENABLED = "changetype: modify\ndelete: shadowExpire\n-\ndelete: objectClass\nobjectClass: shadowAccount\n"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site(more=MORE)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


@dataclass
class Working:
    """Somebody in the middle of her work."""

    browser: Visitor
    token: str
    socket: WebSocketClientConnection
    row_id: str


async def work(site: Site, name: str, profile: str = "basic") -> Working:
    """Sign in, start, open a kernel and keep its websocket open through the proxy."""
    browser = Visitor(site.hub.url)
    person = site.person(name)
    assert (await browser.sign_in({"name": name, "password": person.password}))[0] == 200
    status, made = await site.hub.api("POST", f"users/{name}/tokens", {"note": "mine"})
    assert status == 201, made
    status, said = await site.hub.start_server(name, options={"profile": profile})
    assert status in (201, 202), said
    url = f"{site.hub.url}/user/{name}/"
    kernel = await ServerApi(url, site.hub.token).new_kernel()
    address = f"{url}api/kernels/{kernel}/channels".replace("http", "ws", 1)
    socket = await websocket_connect(HTTPRequest(address, headers={"Authorization": f"token {site.hub.token}"}))
    (row,) = [r for r in site.launches() if r.user_name == name and r.state is not LaunchState.ENDED]
    return Working(browser, str(made["token"]), socket, row.id)


async def cut(socket: WebSocketClientConnection) -> None:
    """Wait until the other side ends it."""
    while await socket.read_message() is not None:
        pass


async def out(site: Site, name: str, working: Working) -> None:
    """All of it ends by itself; only then anything is asked for her."""
    async with asyncio.timeout(2 * SWEEP_S + STOP_S):
        await cut(working.socket)
    hang_up(working.socket)
    await until(lambda: not site.servers(name), within_s=STOP_S, what="her server is gone")
    await until(lambda: ended(site, working), within_s=STOP_S, what="her launch is settled")
    assert (await site.hub.api("GET", "user", token=working.token))[0] == 403
    assert (await working.browser.api("GET", "user"))[0] == 403
    assert "username_input" in (await working.browser.call("GET", "/hub/home"))[1]
    assert (await site.hub.api("GET", f"users/{name}"))[1]["servers"] == {}


def ended(site: Site, working: Working) -> bool:
    return next(r for r in site.launches() if r.id == working.row_id).state is LaunchState.ENDED


def audited(site: Site, name: str) -> list[AuditRow]:
    ledger = site.ledger()
    try:
        return [row for row in ledger.audit.list(subject=f"user:{name}") if row.action == "end_access"]
    finally:
        ledger.close()


async def leave(site: Site, name: str, group: str, gid: int) -> None:
    """Out of a group, by name and as a primary one."""
    change = f"dn: cn={group},ou=groups,{BASE}\nchangetype: modify\ndelete: memberUid\nmemberUid: {name}\n"
    primary = f"dn: {site.person(name).dn}\nchangetype: modify\nreplace: gidNumber\ngidNumber: {gid}\n"
    await site.slapd.modify(f"{primary}\n{change}")


def reason(site: Site, working: Working) -> str:
    return next(r for r in site.launches() if r.id == working.row_id).reason


async def test_whoever_left_is_out_and_comes_back_as_the_same(site: Site) -> None:
    """Disabled, out of the allowed group, with another uid; and somebody of whom nothing was said."""
    names = ("ada", "dora", "emil", "bob")
    ada, dora, emil, bob = [await work(site, name) for name in names]
    account = next(r for r in site.launches() if r.id == ada.row_id).account_id
    (site.home("ada") / "result.txt").write_text("kept")
    await site.slapd.modify(f"dn: {site.person('ada').dn}\n{DISABLED}")
    await leave(site, "dora", "lab", 30003)
    change = f"dn: {site.person('emil').dn}\nchangetype: modify\nreplace: uidNumber\nuidNumber: "
    await site.slapd.modify(f"{change}20099\n")
    await asyncio.gather(*(out(site, name, at_work) for name, at_work in zip(names, (ada, dora, emil), strict=False)))
    row = next(r for r in site.launches() if r.id == ada.row_id)
    assert row.target_by == "sweep"
    assert "expired" in row.reason
    assert "no longer open to you" in reason(site, dora)
    assert "another uid" in reason(site, emil)
    for name in names[:3]:
        assert [(r.who, r.new) for r in audited(site, name)] == [("sweep", {"servers": [""]})]
        assert site.home(name).stat().st_uid == site.person(name).uid
    assert (await site.login_answer("ada", site.person("ada").password))[0] == 403
    # Nobody else noticed anything.
    assert (await site.hub.api("GET", "user", token=bob.token))[0] == 200
    assert site.servers("bob")
    assert audited(site, "bob") == []
    # Re-hired: the same account, home and files.
    await site.slapd.modify(f"dn: {site.person('ada').dn}\n{ENABLED}")
    again = await work(site, "ada")
    assert next(r for r in site.launches() if r.id == again.row_id).account_id == account
    assert (site.home("ada") / "result.txt").read_text() == "kept"
    for at_work in (bob, again):
        hang_up(at_work.socket)
    await site.stop_servers()


async def test_who_loses_a_group_stays_with_less(site: Site) -> None:
    """Groups follow, an administrator is none any more, and a server of a closed profile is warned, then stopped."""
    carl, boss = await work(site, "carl", "large"), await work(site, "boss")
    assert (await site.hub.api("GET", "users", token=boss.token))[0] == 200
    await leave(site, "carl", "beam", 30001)
    await leave(site, "boss", "operators", 30001)

    async def demoted() -> bool:
        _, model = await site.hub.api("GET", "users/boss")
        return not model["admin"] and model["groups"] == ["lab"]

    await until(demoted, within_s=3 * SWEEP_S + 10, what="demoted", every_s=0.2)
    assert (await site.hub.api("GET", "users", token=boss.token))[0] == 403
    assert (await site.hub.api("GET", "user", token=boss.token))[0] == 200
    await until(lambda: ended(site, carl), within_s=4 * SWEEP_S + STOP_S, what="closed", every_s=0.2)
    row = next(r for r in site.launches() if r.id == carl.row_id)
    assert row.reason == "the profile large is no longer open to your groups"
    ledger = site.ledger()
    try:
        told = [notice.text for notice in reversed(ledger.notices.list(row.account_id))]
    finally:
        ledger.close()
    assert [text.split(":")[0] for text in told] == [f"Your server stops in {GRACE_S} s", "Your server was stopped"]
    assert (await site.hub.api("GET", "user", token=carl.token))[0] == 200
    assert site.servers("boss")
    for at_work in (boss, carl):
        hang_up(at_work.socket)
