"""Starts that fail, are given up or cancelled, and stops that cannot be confirmed: nothing left, nothing forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daas_hub.core.launch import CANCELLED
from daas_hub.core.models import LaunchState
from tests.faults.aftermath import check_aftermath, differences, watched_site
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]


@asynccontextmanager
async def small_site(more: str = "", **tiny: object) -> AsyncIterator[Site]:
    """A site with a tiny server, bob signed in; some of these servers never start, so the last look starts none."""
    site = watched_site(cmd=list(program(reachable_python(), **tiny)), more=more)
    try:
        await site.start()
        await site.sign_in("bob")
        yield site
        await check_aftermath(site, person=None)
    finally:
        await site.stop()


async def nothing_left(site: Site, *, within_s: float = 20) -> None:
    """No process, no reservation, the books in order."""
    await until(
        lambda: not site.servers() and all(r.state is LaunchState.ENDED for r in site.launches()),
        within_s=within_s,
        every_s=0.1,
        what="nothing is left",
    )
    assert differences(site) == []


async def test_a_server_that_ends_at_once_is_told_with_its_exit_status() -> None:
    async with small_site(exit=3, print="token {JUPYTERHUB_API_TOKEN}") as site:
        status, answer = await site.hub.start_server("bob")
        assert status == 500
        assert "exit status 3" in answer["message"]
        (row,) = site.launches()
        assert "exit status 3" in row.reason
        await nothing_left(site)


async def test_a_server_that_never_answers_is_given_up_by_our_own_deadline() -> None:
    async with small_site("c.LocalBackend.wait_policy_s = 2\n", silent=True) as site:
        status, answer = await site.hub.api("POST", "users/bob/server")
        assert status == 500
        # The backend's own words, with which it tells what it waited for; ours would name the backend.
        assert answer["message"] == "The server did not answer within 2 s."
        assert "Its last lines" in site.hub.log_text() or "printed nothing" in site.hub.log_text()
        await nothing_left(site)


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    async with small_site(silent=True) as site:
        start = asyncio.create_task(site.hub.api("POST", "users/bob/server"))
        await until(lambda: site.servers("bob"), what="the server began")
        status, answer = await site.hub.api("DELETE", "users/bob/server")
        assert status in (202, 204), answer
        await start
        await nothing_left(site)
        model = await site.hub.server("bob")
        assert model is not None
        assert model["stopped"]


async def test_a_start_that_outlived_its_hub_can_be_cancelled() -> None:
    async with small_site(silent=True) as site:
        begun = asyncio.create_task(site.hub.api("POST", "users/bob/server"))
        await until(lambda: site.servers("bob"), what="the server began")
        await until(lambda: site.launches()[0].handle, what="its handle is saved")
        site.hub.signal(signal.SIGKILL)
        await site.hub.wait_gone()
        await asyncio.gather(begun, return_exceptions=True)
        await site.hub.start()
        (before,) = site.servers("bob")
        home = await site.page("bob", "/hub/home")
        assert "(Basic) is being started since" in home
        assert 'href="/hub/spawn/bob">start it again' in home
        begun = asyncio.create_task(site.hub.api("POST", "users/bob/server", {"profile": "small"}))
        await until(lambda: pending(site), what="the start is taken over")
        assert site.servers("bob") == [before]
        assert 'href="/hub/spawn-pending/bob">Follow or cancel this start' in await site.page("bob", "/hub/home")
        found = await until(lambda: told(site, "A start of this server"), what="what was found is told")
        assert found.startswith("A start of this server (Basic), begun at ")
        assert found.endswith("What you chose now was not taken: to have it, cancel this start, then start again.")
        status, answer = await site.hub.api("DELETE", "users/bob/server")
        assert status in (202, 204), answer
        await asyncio.gather(begun, return_exceptions=True)
        await nothing_left(site)
        (row,) = site.launches()
        assert row.reason == CANCELLED


def told(site: Site, beginning: str) -> str | None:
    """The step of the only launch that begins so, as soon as it is kept."""
    ledger = site.ledger()
    try:
        (row,) = site.launches()
        steps = [event.message for _, event in ledger.events(row.id)]
        return next((step for step in steps if step.startswith(beginning)), None)
    finally:
        ledger.close()


async def pending(site: Site) -> bool:
    model = await site.hub.server("bob")
    return bool(model and model["pending"] == "spawn" and model["state"].get("launch_id"))


async def test_the_next_candidate_is_taken_and_nothing_of_the_first_stays() -> None:
    more = (
        "from tests.flow.failing import BrokenBackend\n"
        'c.DaasHub.backends = {"broken": BrokenBackend, "local": "daas_hub.backends.local.LocalBackend"}\n'
    )
    async with small_site(more) as site:
        status, answer = await site.hub.start_server("bob")
        assert status in (201, 202), answer
        assert len(site.servers("bob")) == 1
        (row,) = site.launches()
        assert (row.backend, row.state) == ("local", LaunchState.RUNNING)
        await site.hub.stop_server("users/bob/server")
        await nothing_left(site)


async def test_a_stop_that_cannot_be_confirmed_stays_counted_and_is_tried_again() -> None:
    site = watched_site()
    flag = site.state / "stubborn"
    site.more += (
        "from tests.flow.failing import StubbornBackend\n"
        f'c.DaasHub.backends = {{"local": StubbornBackend}}\nc.StubbornBackend.flag = "{flag}"\n'
    )
    try:
        await site.start()
        await site.sign_in("bob")
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        flag.touch()
        assert (await site.hub.api("DELETE", "users/bob/server"))[0] in (202, 204)
        (row,) = site.launches()
        assert row.state is LaunchState.STOPPING
        assert site.servers("bob")
        status, answer = await site.hub.api("POST", "users/bob/server")
        assert status == 409
        assert "still being stopped" in answer["message"]
        flag.unlink()
        # The hub has 60 s for a stop of its own; only then does the reconciler take it over.
        await nothing_left(site, within_s=100)
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        await site.hub.stop_server("users/bob/server")
        await check_aftermath(site, person="bob")
    finally:
        await site.stop()


async def test_a_home_of_somebody_else_is_refused_and_stays_as_it_is() -> None:
    async with small_site() as site:
        home, uid = site.home("bob"), site.person("bob").uid
        home.mkdir(mode=0o700)
        (home / "notes").write_text("hers")
        os.chown(home / "notes", uid + 500, 30001)
        os.chown(home, uid + 500, 30001)
        before = [path.stat() for path in (home, home / "notes")]
        status, answer = await site.hub.start_server("bob")
        assert status == 403
        for word in (str(home), f"uid {uid + 500}", f"uid {uid}", "administers this machine"):
            assert word in answer["message"]
        (row,) = site.launches()
        assert str(home) in row.reason
        assert [path.stat() for path in (home, home / "notes")] == before
        assert [path.name for path in home.iterdir()] == ["notes"]
        await nothing_left(site)


@pytest.mark.parametrize("cmd", ["no-such-server", "/srv/no-such-server"])
async def test_a_program_that_is_not_there_is_named_with_who_can_change_it(cmd: str) -> None:
    async with small_site(f"c.DaasSpawner.cmd = [{cmd!r}]\n") as site:
        status, answer = await site.hub.start_server("bob")
        assert status == 500
        (row,) = site.launches()
        page = await site.page("bob", "/hub/spawn-pending/bob")
        for text in (answer["message"], row.reason, page):
            assert f"{cmd} was not found" in text
            assert "Whoever administers this hub can install it, or correct DaasSpawner.cmd" in text
        assert row.exit_code == 78
        await nothing_left(site)


async def test_two_entries_with_one_uid_start_nothing_until_one_is_corrected() -> None:
    async with small_site() as site:
        change = f"dn: {site.person('carl').dn}\nchangetype: modify\nreplace: uidNumber\nuidNumber: {{}}\n"
        await site.slapd.modify(change.format(site.person("bob").uid))
        await site.sign_in("carl")
        for name, other in (("bob", "carl"), ("carl", "bob")):
            status, answer = await site.hub.start_server(name)
            assert status == 403
            assert f"gives uid {site.person('bob').uid} to {name} and to {other}" in answer["message"]
        assert site.servers() == []
        await site.slapd.modify(change.format(site.person("carl").uid))
        for name in ("bob", "carl"):
            assert (await site.hub.start_server(name))[0] in (201, 202)
            await site.hub.stop_server(f"users/{name}/server")
        await nothing_left(site)


async def test_parallel_stops_of_one_server_all_succeed() -> None:
    async with small_site() as site:
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        answers = await asyncio.gather(*(site.hub.api("DELETE", "users/bob/server") for _ in range(8)))
        assert {status for status, _ in answers} <= {202, 204}, answers
        await nothing_left(site)
        (row,) = site.launches()
        assert row.reason == "stopped on request"
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
