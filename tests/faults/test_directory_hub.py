"""A real hub whose directory fails: its pages answer, what runs goes on, and login and start say what is the matter."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.aftermath import check_aftermath, faulty_site, watched_site
from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.hub import HubServer
from tests.servers.slapd import SERVICE_PASSWORD
from tests.servers.tiny_server import get
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]

SHORT = "c.DaasLDAPAuthenticator.answer_within_s = 2\nc.DaasLDAPAuthenticator.login_within_s = 4\n"
"""Less than the 10 s after which JupyterHub answers a start with "pending" and tells the rest on a page."""


@pytest.fixture
def site() -> Site:
    return watched_site(more=SHORT)


@pytest.fixture
async def proxy(site: Site) -> AsyncIterator[FaultProxy]:
    """Between the hub and the directory."""
    proxy = await FaultProxy(site.slapd.port).start()
    site.directory_uri = f"ldap://{proxy.host}:{proxy.port}"
    yield proxy
    await proxy.stop()


@pytest.fixture
async def hub(site: Site, proxy: FaultProxy) -> AsyncIterator[HubServer]:
    async with faulty_site(site=site):
        yield site.hub
        proxy.fault = Fault.NONE


async def sign_in(hub: HubServer, name: str, password: str | None = None) -> tuple[int, str]:
    """Status and the sentence above the login form."""
    person = {"name": name, "password": password or f"{name}-secret"}
    status, page = await Visitor(hub.hub_url).sign_in(person)
    said = re.search(r'class="[^"]*login_error[^"]*"[^>]*>(.*?)</p>', page, re.DOTALL)
    return status, html.unescape(said[1].strip()) if said else ""


async def health(hub: HubServer) -> float:
    """Seconds until the health page answers. Without a thread: the logins hold those that there are."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub_port)
    writer.write(b"GET /hub/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    return time.monotonic() - began


async def test_each_outcome_is_told_in_its_own_words(hub: HubServer, proxy: FaultProxy) -> None:
    wrong, unknown = await sign_in(hub, "ada", "wrong"), await sign_in(hub, "nobody-of-that-name")
    locked, not_allowed = await sign_in(hub, "locked"), await sign_in(hub, "eve")
    await proxy.stop()
    down = await sign_in(hub, "ada")
    await proxy.start()
    assert wrong == unknown == (403, "Invalid username or password")
    assert [locked[0], not_allowed[0], down[0]] == [403, 403, 503]
    assert "locked" in locked[1]
    assert "not open to you" in not_allowed[1]
    assert "try again" in down[1]

    endless = "x" * 300_000
    assert (await sign_in(hub, endless, "wrong"))[0] == 403
    assert (await sign_in(hub, "ada", endless))[0] == 403
    visitor = Visitor(hub.hub_url)
    await visitor.sign_in({"name": "ada", "password": "ada-secret"})
    assert any(cookie.name == "jupyterhub-session-id" for cookie in visitor.jar)
    status, ada = await hub.api("GET", "users/ada")
    assert (status, ada["groups"], ada["admin"]) == (200, ["lab"], False)

    log = hub.log_text()
    assert "x" * 100 not in log
    assert not [s for s in ("ada-secret", "locked-secret", "eve-secret", SERVICE_PASSWORD) if s in log]


async def test_health_answers_while_the_directory_says_nothing(hub: HubServer, proxy: FaultProxy) -> None:
    proxy.fault = Fault.SILENT
    began = time.monotonic()
    crowd = [asyncio.ensure_future(sign_in(hub, name)) for name in ("ada", "bob", "boss") * 4]
    longest, asked = 0.0, 0
    while not all(login.done() for login in crowd):
        longest, asked = max(longest, await health(hub)), asked + 1
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    answers = [login.result() for login in crowd]
    assert {status for status, _ in answers} == {503}
    assert all("try again" in said for _, said in answers)
    # The logins hung, for the time that one may take and no longer; the loop did not.
    assert 2 < took < 9
    assert asked > 50
    assert longest < 1


FAULTS = ("silent", "refusing", "drip", "slow", "reset", "cut at once", "cut halfway", "cut at the end")


async def make(fault: str, proxy: FaultProxy, whole: int) -> None:
    """``whole``: the bytes of all answers to one login; a cut comes after a part of them."""
    if fault == "refusing":
        await proxy.stop()
        return
    parts = {"cut at once": 7, "cut halfway": whole // 2, "cut at the end": whole - whole // 20}
    proxy.cut_after = parts.get(fault, 0)
    proxy.fault = Fault.CUT if fault in parts else Fault(fault)


async def mend(fault: str, proxy: FaultProxy) -> None:
    if fault == "refusing":
        await proxy.start()
    proxy.fault = Fault.NONE


async def test_a_login_is_told_so_and_starts_and_servers_go_on(hub: HubServer, proxy: FaultProxy, site: Site) -> None:
    for name in ("ada", "bob"):
        await site.sign_in(name)
    assert (await hub.start_server("ada"))[0] in (201, 202)
    before = site.servers()
    (row,) = site.launches()
    assert row.handle is not None
    proxy.answered.clear()
    await site.sign_in("boss")
    whole = max(proxy.answered)
    for fault in FAULTS:
        await make(fault, proxy, whole)
        connections = proxy.connections
        calls = [
            asyncio.create_task(sign_in(hub, "boss")),
            asyncio.create_task(hub.api("POST", "users/bob/server")),
        ]
        asked = 0
        while not all(call.done() for call in calls):
            await health(hub)
            asked += 1
            await asyncio.sleep(0.02)
        (status, said), (started, answer) = (call.result() for call in calls)
        assert (status, "try again" in said) == (503, True), (fault, said)
        # Who bob is was known a moment ago, which is enough for a day (core/access.py).
        assert started in (201, 202), (fault, answer)
        await until(lambda: len(site.servers()) == 2, within_s=20, what=f"bob's server, {fault}")
        assert (await hub.api("DELETE", "users/bob/server"))[0] in (202, 204), fault
        await until(lambda: site.servers() == before, within_s=20, what=f"the end of bob's server, {fault}")
        assert asked, fault
        assert fault == "refusing" or proxy.connections > connections, f"{fault}: nobody met it"
        # Whoever works goes on working, and the hub goes on knowing it.
        assert site.servers() == before, fault
        assert (await asyncio.to_thread(get, f"http://127.0.0.1:{row.handle['port']}/user/ada/whoami"))["pid"]
        model = await hub.server("ada")
        assert model is not None
        assert model["ready"], fault

        await mend(fault, proxy)
        await until(lambda: _signs_in(hub), within_s=20, every_s=0.2, what=f"login after {fault}")
        assert (await hub.start_server("bob"))[0] in (201, 202), fault
        await hub.stop_server("users/bob/server")
        await check_aftermath(site)


async def _signs_in(hub: HubServer) -> bool:
    return (await sign_in(hub, "boss")) == (200, "")
