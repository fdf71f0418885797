"""Linking as people see it: the sign-in page, the link page, a request and its decision, in a real Chromium."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.servers.browser import ChromiumServer, axe, overflow
from tests.servers.link_site import LinkSite
from tests.servers.npm import proxy_command

pytestmark = [
    pytest.mark.needs("slapd", "node", "chromium"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinkSite]:
    made = await LinkSite(Path(tmp_path_factory.mktemp("pages")), proxy=proxy_command()).start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChromiumServer]:
    made = await ChromiumServer(tmp_path_factory.mktemp("chromium") / "log").start()
    yield made
    await made.stop()


async def looked_at(page: Page, name: str) -> None:
    """axe finds nothing and nothing is wider than the window: light and dark, desktop and phone."""
    for dark in (False, True):
        await page.emulate_media(color_scheme="dark" if dark else "light")
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.reload()
            await page.wait_for_load_state("networkidle")
            assert await axe(page, within="#daas-main" if await page.query_selector("#daas-main") else None) == []
            assert await overflow(page) <= 0
            if folder := os.environ.get("DAAS_SCREENSHOTS"):
                await page.screenshot(path=f"{folder}/{name}-{'dark' if dark else 'light'}-{width}.png", full_page=True)
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 1280, "height": 900})


async def sign_in(page: Page, site: LinkSite, name: str) -> None:
    await page.goto(f"{site.hub.url}/hub/login?next=/hub/home")
    await page.fill("#username_input", name)
    await page.fill("#password_input", f"{name}-secret")
    await page.click("#login_submit")
    await page.wait_for_url("**/hub/home")


async def test_a_link_by_keyboard_alone(site: LinkSite, chromium: ChromiumServer) -> None:
    page = await (await chromium.person()).new_page()
    await page.goto(f"{site.hub.url}/hub/login?next=/hub/token")
    await looked_at(page, "login")
    site.first.person = "2"
    await page.get_by_role("link", name="Sign in with First Federation").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/hub/daas/link")
    assert "First Federation" in await page.inner_text("main")
    assert await page.inner_text("#who") == "bob <bob@site.test>"
    await looked_at(page, "link")
    await page.focus("#username")
    await page.keyboard.type("bob")
    await page.keyboard.press("Tab")
    await page.keyboard.type("not it")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "link"
    await page.keyboard.press("Enter")
    assert await page.inner_text("#problem") == "Invalid username or password"
    assert await page.input_value("#username") == "bob"
    assert await page.input_value("#password") == ""
    assert await axe(page, within="#daas-main") == []
    await page.fill("#password", "bob-secret")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/hub/token")
    assert site.links("bob")[1:] == [(site.first.issuer, "2", "password")]


async def test_a_request_and_its_decisions(site: LinkSite, chromium: ChromiumServer) -> None:
    guest = await (await chromium.person()).new_page()
    admin = await (await chromium.person()).new_page()
    await sign_in(admin, site, "boss")
    site.second.person = "4"
    console, login = f"{site.hub.url}/services/daas/", f"{site.hub.url}/hub/oidc/second/login?next=/hub/home"

    async def ask(text: str) -> None:
        await guest.goto(login)
        await guest.wait_for_url("**/hub/daas/link")
        await guest.fill("#text", text)
        await guest.click("#ask")
        await guest.wait_for_selector("#asked")

    await ask("<b>I am carl</b> of the beamline.")
    await looked_at(guest, "asked")
    await admin.goto(f"{console}admin/requests")
    assert "<b>I am carl</b> of the beamline." in await admin.inner_text("main")
    await looked_at(admin, "requests")
    await admin.fill("[name=why]", "Who knows you?")
    await admin.get_by_role("button", name="Refuse").click()
    await admin.wait_for_selector("[role=status]")
    await guest.goto(login)
    assert "Who knows you?" in await guest.inner_text("#refused")
    await ask("My group leader does.")
    await admin.goto(f"{console}admin/requests")
    await admin.fill("[name=name]", "nobody-of-this-name")
    await admin.get_by_role("button", name="Accept").click()
    assert "nobody-of-this-name" in await admin.inner_text("#problem")
    await admin.fill("[name=name]", "carl")
    await admin.get_by_role("button", name="Accept").click()
    await admin.wait_for_selector("[role=status]")
    assert await admin.inner_text("#nothing") == "Nobody waits."

    await guest.goto(login)
    await guest.wait_for_url("**/hub/home")
    assert site.links("carl")[1:] == [(site.second.issuer, "4", "administrator")]
    await guest.goto(console)
    await guest.click("text=My identities")
    await guest.wait_for_selector("tr[data-way]")
    rows = await guest.locator("tr[data-way]").all_inner_texts()
    assert len(rows) == 2
    assert site.second.issuer in rows[1]
    await looked_at(guest, "identities")
    await guest.goto(f"{console}admin/identities?user=boss")
    assert "This is open only to those who may" in await guest.inner_text("main")

    await admin.goto(f"{console}admin/identities?user=carl")
    await looked_at(admin, "admin-identities")
    await admin.fill("tr [name=why]", "He left that university.")
    await admin.click("button:has-text('Unlink')")
    await admin.wait_for_selector("[role=status]")
    assert site.links("carl")[1:] == []
    # His sign-in ended with it, and the way leads to the link page again.
    await guest.goto(f"{site.hub.url}/hub/home")
    await guest.wait_for_selector("#username_input")
    await guest.goto(login)
    await guest.wait_for_url("**/hub/daas/link")
    assert decisions(site) == ["request_refused", "request_accepted", "link", "unlink"]


async def test_a_code_and_an_end_by_herself(site: LinkSite, chromium: ChromiumServer) -> None:
    guest = await (await chromium.person()).new_page()
    admin = await (await chromium.person()).new_page()
    await sign_in(admin, site, "boss")
    # What a provider calls somebody may be one word that is wider than any window.
    site.second.people["5"] = {"preferred_username": "d5", "name": "W" * 190, "groups": []}
    site.second.person = "5"
    console = f"{site.hub.url}/services/daas/"
    await admin.goto(f"{console}admin/identities?user=dora")
    await admin.fill("#why-invite", "New badge")
    await admin.click("#invite")
    code = await admin.inner_text("#code")
    assert await axe(admin) == []
    await admin.goto(f"{console}admin/identities?user=dora")
    assert code not in await admin.content()
    await guest.goto(f"{site.hub.url}/hub/oidc/second/login?next=/hub/home")
    await guest.wait_for_url("**/hub/daas/link")
    await looked_at(guest, "link-long-name")
    await guest.fill("#code", code)
    await guest.click("#use-code")
    await guest.wait_for_url("**/hub/home")
    await looked_at(guest, "home-long-name")
    assert site.links("dora")[1:] == [(site.second.issuer, "5", "invitation")]
    assert decisions(site)[-2:] == ["invite", "link"]
    # The console could tell the hub of all that was decided here.
    assert "Nobody is mailed" not in site.hub.log_text()

    site.second.extra_claims = {"auth_time": int(time.time())}
    await guest.goto(f"{console}identities")
    await guest.click("tr[data-way] a")
    await guest.wait_for_url("**/hub/daas/unlink/*")
    await looked_at(guest, "unlink")
    await guest.fill("#password", "dora-secret")
    await guest.click("#unlink")
    await guest.wait_for_selector("#unlinked")
    assert await axe(guest, within="#daas-main") == []
    assert site.links("dora")[1:] == []


def decisions(site: LinkSite) -> list[str]:
    """What boss did, as the audit has it."""
    ledger = site.ledger()
    rows = [row.action for row in reversed(ledger.audit.list()) if row.who == "admin:boss"]
    ledger.close()
    return rows
