"""Where a server that chose its port itself tells it: one integer, once, with its own token, in the ledger first."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from daas_hub.core.models import LaunchState, Target
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.runtime import utcnow
from tests.faults.aftermath import watched_site
from tests.faults.leaks import launch_token
from tests.flow.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(120)]
PORT = 41234
BACKEND = """
from tests.flow.reporting import ReportingBackend
c.DaasHub.backends = {"local": ReportingBackend}
c.ReportingBackend.unsent, c.ReportingBackend.unnumbered = "unsent", "unnumbered"
c.Reconciler.every_s = 3600
"""
"""The files are looked for in the hub's own folder."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = watched_site(more=BACKEND)
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


@pytest.fixture
async def token(site: Site) -> AsyncIterator[str]:
    """The token of ada's server, which runs and has told nothing yet."""
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    yield launch_token(site, "ada")
    if await site.hub.server("ada"):
        await site.hub.stop_server("users/ada/server")


async def report(site: Site, token: str | None, body: Any, **headers: str) -> int:
    """The status of one report."""
    given = {"Authorization": f"token {token}"} if token is not None else {}
    status, _ = await site.hub.http("POST", f"{site.hub.hub_url}/hub/api/daas/report", body, {**given, **headers})
    return status


def newest(site: Site) -> LaunchRow:
    return site.launches()[0]


def known(site: Site, user: str = "ada") -> int | None:
    """The port that the ledger has of the newest launch of a user."""
    row = next(row for row in site.launches() if row.user_name == user)
    return (row.handle or {}).get("reported")


async def test_one_port_is_taken_once(site: Site, token: str) -> None:
    # No XSRF token goes with it, and none is asked for, also of a program that calls itself a page.
    assert await report(site, token, {"port": PORT}, Origin="https://elsewhere.example") == 200
    assert known(site) == PORT
    for again in (PORT, PORT + 1):
        assert await report(site, token, {"port": again}) == 409
    assert known(site) == PORT
    row = newest(site)
    assert row.state is LaunchState.RUNNING
    assert row.handle is not None
    assert (row.handle["backend"], row.handle["launch_id"]) == ("local", row.id)


async def test_of_many_at_once_one_is_taken(site: Site, token: str) -> None:
    answers = await asyncio.gather(*(report(site, token, {"port": PORT + n}) for n in range(8)))
    assert sorted(answers) == [200] + [409] * 7
    assert known(site) == PORT + answers.index(200)


async def test_a_hub_that_was_restarted_takes_it_too(site: Site, token: str) -> None:
    await site.hub.stop()
    await site.hub.start()
    assert await report(site, token, {"port": PORT}) == 200
    assert known(site) == PORT


async def test_no_other_token_changes_anything(site: Site, token: str) -> None:
    status, own = await site.hub.api("POST", "users/ada/tokens", {"note": "of ada, of no server"})
    assert status == 201, own
    for other in (None, "", "0" * 32, own["token"], site.hub.token):
        assert await report(site, other, {"port": PORT}) == 403, other
    assert known(site) is None
    # A server speaks of itself alone.
    await site.sign_in("bob")
    assert (await site.hub.start_server("bob"))[0] in (201, 202)
    his = launch_token(site, "bob")
    assert await report(site, his, {"port": PORT}) == 200
    assert (known(site, "bob"), known(site, "ada")) == (PORT, None)
    await site.hub.stop_server("users/bob/server")
    before = site.launches()
    assert await report(site, his, {"port": PORT + 1}) == 403
    assert site.launches() == before


async def test_a_session_is_no_server(site: Site, token: str) -> None:
    await site.sign_in("ada")
    cookie = "; ".join(f"jupyterhub-hub-login={value}" for who, value in site.cookies if who == "ada")
    assert await report(site, None, {"port": PORT}, Cookie=cookie) == 403
    assert known(site) is None


NO_PORT = [None, 8888, "8888", [8888], {}, {"port": "8888"}, {"port": 8888.0}, {"port": True}, {"port": None}]
NO_PORT += [{"port": n} for n in (0, -1, 80, 1023, 65536, 10**30)] + [{"port": 8888, "host": "10.0.0.1"}]
NO_PORT += [b"", b"{", b"\xff", b'{"port": NaN}', b"[" * 200]


async def test_what_is_no_port_is_refused(site: Site, token: str) -> None:
    for body in NO_PORT:
        assert await report(site, token, body) == 400, body
    assert known(site) is None
    for port in (1024, 65535):
        # The bounds themselves are ports: the first is taken, and then no more.
        assert await report(site, token, {"port": port}) == (200 if port == 1024 else 409)


def sent(site: Site, token: str, body: bytes | Iterable[bytes], length: str | None) -> int:
    """The status; a body in pieces has no length that could be known before."""
    connection = http.client.HTTPConnection(site.hub.hub_host, site.hub.hub_port, timeout=20)
    headers = {"Authorization": f"token {token}"} | ({"Content-Length": length} if length else {})
    try:
        chunked = length is None
        connection.request("POST", "/hub/api/daas/report", body, headers, encode_chunked=chunked)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_a_long_body_is_refused(site: Site, token: str) -> None:
    short = json.dumps({"port": PORT}).encode()
    pieces = [short, b" " * 100_000, b" " * 100_000]
    assert await asyncio.to_thread(sent, site, token, iter(pieces), None) == 413
    # Refused by what it announces: the rest never comes, and is not waited for.
    assert await asyncio.to_thread(sent, site, token, short, str(1 << 30)) == 413
    assert known(site) is None
    assert await asyncio.to_thread(twice, site, token, b" " * 60_000) == [413, 413]
    assert await asyncio.to_thread(sent, site, token, iter([short]), None) == 200


def twice(site: Site, token: str, body: bytes) -> list[int]:
    """Over one connection: a hub that closes before it has read all lets a proxy say 503, which is no refusal."""
    connection = http.client.HTTPConnection(site.hub.hub_host, site.hub.hub_port, timeout=20)
    answers = []
    try:
        for _ in range(2):
            connection.request("POST", "/hub/api/daas/report", body, {"Authorization": f"token {token}"})
            with connection.getresponse() as answer:
                answer.read()
                answers.append(answer.status)
        return answers
    finally:
        connection.close()


async def test_before_it_can_be_taken_it_is_to_come_again(site: Site) -> None:
    unsent, unnumbered = site.hub.root / "unsent", site.hub.root / "unnumbered"
    unsent.touch()
    unnumbered.touch()
    try:
        status, _ = await site.hub.api("POST", "users/ada/server")
        assert status in (201, 202)
        await until(lambda: newest(site).state is LaunchState.SUBMITTED, within_s=30, what="the launch is submitted")
        token = launch_token(site, "ada")
        assert newest(site).handle is None
        assert await report(site, token, {"port": PORT}) == 503
        unsent.unlink()
        await until(lambda: newest(site).handle is not None, within_s=30, what="its process is known")
        assert await report(site, token, {"port": PORT}) == 503
        assert known(site) is None
        unnumbered.unlink()
        assert await report(site, token, {"port": PORT}) == 200
        assert known(site) == PORT
    finally:
        unsent.unlink(missing_ok=True)
        unnumbered.unlink(missing_ok=True)
        await site.hub.stop_server("users/ada/server")


async def test_of_a_server_that_is_to_stop_nothing_is_taken(site: Site, token: str) -> None:
    ledger = site.ledger()
    try:
        ledger.set_target(newest(site).id, Target.STOPPED, now=utcnow(), reason="test", by="limit")
    finally:
        ledger.close()
    assert await report(site, token, {"port": PORT}) == 409
    assert known(site) is None
