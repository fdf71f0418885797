"""What attackers send to the console: foreign requests, texts that are code, links that lead elsewhere."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page

from daas_hub.core.models import Resource, Who
from daas_hub.db.ledger import Ledger
from daas_hub.services.console import api, pages
from tests.browser import seeds
from tests.servers.browser import sign_in
from tests.servers.console import PASSWORD, ConsoleHub, Person, xsrf

pytestmark = [pytest.mark.needs("node")]

FETCH_MODES = [None, "navigate", "no-cors", "cors", "same-origin", "websocket", "nonsense"]


def writing_paths() -> list[tuple[str, str]]:
    """Every (method, path) of the console that changes something, from its own route tables."""
    found = []
    for pattern, handler in [*pages.routes("/services/daas/"), *api.routes("/services/daas/")]:
        path = re.sub(r"\(\[\^/\]\+\)", "1", pattern).replace("\\", "")
        for method in ("post", "put", "delete", "patch"):
            if method in vars(handler):
                found.append((method.upper(), path))
    return found


@pytest.mark.parametrize("mode", FETCH_MODES)
async def test_nothing_changes_without_the_xsrf_token(hub: ConsoleHub, ledger: Ledger, mode: str | None) -> None:
    admin = await asyncio.to_thread(Person(hub).sign_in, "admin")
    before = (ledger.limits.list(), ledger.audit.list())
    headers = {"Sec-Fetch-Mode": mode} if mode else {}
    paths = writing_paths()
    assert len(paths) >= 10
    form = {"who": "default-each", "name": "", "resource": "gpus", "amount": "1", "uid": "1", "user_name": "x"}
    for site in (None, "same-origin", "same-site", "cross-site", "none"):
        sent = headers | ({"Sec-Fetch-Site": site} if site else {})
        for method, path in paths:
            for body in (form, {**form, "_xsrf": "2|wrong|token|1"}):
                status, _, text = await asyncio.to_thread(admin.request, method, hub.url + path, body, sent)
                assert status == 403, (method, path, sent, status, text[-300:])
    assert (ledger.limits.list(), ledger.audit.list()) == before


async def test_the_token_of_somebody_else_does_not_help(hub: ConsoleHub, ledger: Ledger) -> None:
    admin = await asyncio.to_thread(Person(hub).sign_in, "admin")
    second = await asyncio.to_thread(Person(hub).sign_in, "admin")
    url = f"{hub.console}admin/limits"
    form = {"who": "default-each", "name": "", "resource": "gpus", "amount": "1", "note": ""}
    _, _, theirs = await asyncio.to_thread(second.request, "GET", url)
    status, _, _ = await asyncio.to_thread(admin.request, "POST", url, {**form, "_xsrf": xsrf(theirs)})
    assert status == 403
    _, _, own = await asyncio.to_thread(admin.request, "GET", url)
    status, _, text = await asyncio.to_thread(admin.request, "POST", url, {**form, "_xsrf": xsrf(own)})
    assert (status, "The limit is set." in text) == (200, True)
    row = next(limit for limit in ledger.limits.list() if limit.resource is Resource.GPUS)
    # Even with the token, not when the browser says that another site asked.
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    target = f"{url}/{row.id}/delete"
    status, _, _ = await asyncio.to_thread(admin.request, "POST", target, {"_xsrf": xsrf(own)}, foreign)
    assert status == 403
    assert row in ledger.limits.list()


@pytest.mark.parametrize("mode", ["no-cors", "cors"])
async def test_a_script_elsewhere_cannot_read(hub: ConsoleHub, mode: str) -> None:
    alice = await asyncio.to_thread(Person(hub).sign_in, "alice")
    headers = {"Sec-Fetch-Mode": mode, "Sec-Fetch-Site": "cross-site"}
    for path in ("", "api/v1/me/usage"):
        status, _, text = await asyncio.to_thread(alice.request, "GET", hub.console + path, None, headers)
        assert (status, "default-each" in text) == (403, False)


async def test_a_body_of_5_mb_is_refused(hub: ConsoleHub) -> None:
    admin = await asyncio.to_thread(Person(hub).sign_in, "admin")
    try:
        status, _, _ = await asyncio.to_thread(
            admin.request, "POST", f"{hub.console}admin/limits", b"x" * 5_000_000, {}
        )
    except OSError:
        status = 400  # the console closed the connection while it was being sent
    assert status in (400, 403, 413, 502, 503)
    assert (await hub.http("GET", f"{hub.console}health"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "?next=https://evil.example/",
        "?next=//evil.example/",
        "?done=https://evil.example/",
        "/evil.example/",
        "//evil.example/%2e%2e",
        "%5c%5cevil.example",
        "admin?next=https://evil.example/",
        "oauth_callback?next=https://evil.example/",
        "oauth_callback?code=x&state=x&next=//evil.example",
        "oauth_callback?error=<script>window.hacked=1</script>",
    ],
)
async def test_no_link_leads_elsewhere(hub: ConsoleHub, path: str) -> None:
    for person in (Person(hub), await asyncio.to_thread(Person(hub).sign_in, "admin")):
        _, url, text = await asyncio.to_thread(person.request, "GET", hub.console + path)
        assert url.startswith(f"{hub.url}/"), url
        assert "<script>window.hacked" not in text


async def test_what_a_redirect_says_is_ours(hub: ConsoleHub) -> None:
    alice = await asyncio.to_thread(Person(hub).sign_in, "alice")
    for text in ("Your%20password%20expired", "%3Cscript%3E", "%ff", "limit-set&done=Pay%20now"):
        status, _, page = await asyncio.to_thread(alice.request, "GET", f"{hub.console}?done={text}")
        assert (status, 'role="status"' in page) == (200, False), page[-2000:]


async def test_pages_are_closed_without_their_scope(hub: ConsoleHub) -> None:
    alice = await asyncio.to_thread(Person(hub).sign_in, "alice")
    _, _, mine = await asyncio.to_thread(alice.request, "GET", hub.console)
    assert "admin/limits" not in mine
    for path in ("admin", "admin/launches", "admin/limits", "admin/limits/1", "admin/audit", "admin/accounts"):
        status, _, text = await asyncio.to_thread(alice.request, "GET", hub.console + path)
        assert (status, "<table" in text) == (403, False), path
    # A form that she made herself, with her own token.
    _, _, home = await asyncio.to_thread(alice.request, "GET", f"{hub.console}?x=1")
    form = {"who": "default-each", "name": "", "resource": "gpus", "amount": "9", "note": ""}
    token = next(c.value for c in alice.jar if c.name == "_xsrf" and c.path == "/services/daas/")
    status, _, _ = await asyncio.to_thread(
        alice.request, "POST", f"{hub.console}admin/limits", {**form, "_xsrf": token or home}
    )
    assert status == 403


async def test_every_answer_has_the_policy(hub: ConsoleHub) -> None:
    alice = await asyncio.to_thread(Person(hub).sign_in, "alice")
    for path in ("", "admin/limits", "nothing", "api/v1/me/usage", "api/v1/nothing", "oauth_callback"):
        headers = await asyncio.to_thread(alice.headers, hub.console + path)
        assert "default-src 'none'" in headers.get("Content-Security-Policy", ""), (path, headers)
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.needs("chromium")
async def test_hostile_text_is_only_text(hub: ConsoleHub, ledger: Ledger, page: Page) -> None:
    owner = seeds.account(ledger, "admin", 5100, display_name=seeds.HOSTILE)
    note = {"enforces_limits": False, "limits_note": seeds.HOSTILE}
    running = seeds.launch(ledger, owner, "s1", profile=seeds.HOSTILE, handle=note)
    stuck = seeds.stopping(ledger, seeds.launch(ledger, owner, "s2", profile=seeds.HOSTILE), seeds.HOSTILE)
    seeds.ended(ledger, seeds.launch(ledger, owner, "s3", profile=seeds.HOSTILE), seeds.HOSTILE)
    ledger.notices.add(owner.id, "s3", seeds.HOSTILE, now=seeds.NOW)
    args = (Who.GROUP_EACH, seeds.HOSTILE, Resource.SERVERS, 2, "admin:" + seeds.HOSTILE, seeds.NOW, seeds.HOSTILE)
    limit = ledger.limits.set(*args)
    await sign_in(page, hub.url, "admin", PASSWORD)
    shown = 0
    for path in (
        "/hub/home",
        "/services/daas/",
        "/services/daas/admin/launches",
        f"/services/daas/admin/launches/{running.id}",
        f"/services/daas/admin/launches/{stuck.id}",
        "/services/daas/admin/limits",
        f"/services/daas/admin/limits/{limit.id}",
        "/services/daas/admin/audit",
        "/services/daas/admin/launches?user=<script>window.hacked=1</script>",
    ):
        answer = await page.goto(hub.url + path)
        assert answer is not None
        assert answer.status == 200, path
        assert await page.evaluate("() => window.hacked") is None, path
        text = await page.inner_text("body")
        shown += text.count(seeds.HOSTILE)
        assert "49" not in re.sub(r"\d\d:\d\d(:\d\d)?|[0-9a-f]{32}", "", text), path
    assert shown >= 12
    for row in (running, stuck):
        seeds.ended(ledger, row, "over")
