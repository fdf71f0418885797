"""The whole flow as a person sees it: a real hub, a real directory, a real uid, Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from daas_hub.core.models import LaunchState, Resource, Who
from daas_hub.demo.proxy_command import proxy_command
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, sign_in
from tests.servers.lab import new_notebook, open_lab, run_cell
from tests.waiting import LONG, until

pytestmark = [pytest.mark.needs("root", "slapd", "chromium", "node"), pytest.mark.timeout(300)]

IDLE_AFTER_S = 20
ZONES = [("UTC", "machine"), ("Pacific/Auckland", "demo"), *([("Pacific/Auckland", "python")] if LONG else [])]
"""The browser's time zone, and which proxy stands before the hub."""


@pytest_asyncio.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A browser page of its own."""
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    person = await browser.person()
    yield await person.new_page()
    await browser.stop()


@pytest.mark.parametrize(("zone", "proxy"), ZONES)
async def test_from_login_to_an_idle_stop_and_back(zone: str, proxy: str, page: Page) -> None:
    """login → profile → Lab → a cell runs `id`, writes a file → a start over her limit is refused with numbers →

    idle stop with its tab open → login finds the file.
    """
    rules = [{"name": "Basic", "profiles": ["basic"], "idle_after_s": IDLE_AFTER_S}]
    # The demo's last resort drops the protocol that Lab offers on its websocket: Lab then speaks the older one.
    demos = proxy_command(python=proxy == "python")
    assert demos.lacks == "" or proxy != "demo", "the tests' environment has the demo's own Node proxy"
    command: bool | list[str] = True if proxy == "machine" else list(demos.argv)
    site = Site(more=f"c.Culler.rules = {rules!r}", env={"TZ": zone}, proxy=command)
    try:
        await site.start()
        ledger = site.ledger()
        ledger.limits.set(Who.GROUP_EACH, "lab", Resource.SERVERS, 1, by="test", now=datetime.now(UTC))
        ledger.close()
        await visit(site, page)
    finally:
        await site.stop()


async def no_news(page: Page) -> None:
    """Lab's own question about news is off, as its settings say; the page has had time to ask."""
    setting = await page.evaluate(
        """async () => {
          const xsrf = document.cookie.match(/_xsrf=([^;]*)/)[1];
          const path = '/user/ada/lab/api/settings/@jupyterlab/apputils-extension:notification';
          const known = await fetch(path, {headers: {'X-XSRFToken': xsrf}});
          return (await known.json()).schema.properties.fetchNews.default;
        }"""
    )
    assert setting == "false"
    await expect(page.get_by_text("official Jupyter news")).to_have_count(0)


async def over_her_limit(site: Site, lab: Page) -> None:
    """A second server, in another tab: refused with numbers, and with what would help; nothing is begun."""
    page = await lab.context.new_page()
    await page.goto(f"{site.hub.url}/hub/spawn/ada/second")
    await expect(
        page.get_by_text("Over your limit just now. Stopping your default server would help.").first
    ).to_be_visible()
    await page.get_by_role("button", name="Start").click()
    await expect(page.locator(".alert-danger, .text-danger").first).to_contain_text(
        "This start would be 1 server more, but the limit for each member of group lab is 1 server at once and "
        "1 server is in use. No profile would fit now. Stopping your default server would help."
    )
    assert [row.server_name for row in site.launches()] == [""]
    assert len(site.servers("ada")) == 1
    await page.close()


async def visit(site: Site, page: Page) -> None:
    ada, url = site.person("ada"), site.hub.url
    await sign_in(page, url, "ada", ada.password)
    await page.goto(f"{url}/hub/spawn")
    await page.get_by_role("button", name="Start").click()
    await open_lab(page, "/user/ada/lab")
    await new_notebook(page)
    printed = await run_cell(page, "!id; echo from-a-cell > made-here.txt")
    assert f"uid={ada.uid}(ada) gid={ada.gid}(lab) groups={ada.gid}(lab)" in printed
    made = (site.home("ada") / "made-here.txt").stat()
    assert (made.st_uid, made.st_gid) == (ada.uid, ada.gid)

    await no_news(page)
    await over_her_limit(site, page)

    # Nobody works any more; the tab stays open.
    def ended() -> bool:
        return all(row.state is LaunchState.ENDED for row in site.launches())

    await until(ended, within_s=IDLE_AFTER_S * 4 + 60, every_s=0.5, what="the idle server is stopped")
    (row,) = site.launches()
    assert "idle" in row.reason
    assert not site.servers("ada")
    await expect(
        page.get_by_text("Server unavailable or unreachable").or_(page.get_by_text("Server Connection Error")).first
    ).to_be_visible(timeout=60_000)

    await page.goto(f"{url}/hub/home")
    await expect(page.get_by_text("idle").first).to_be_visible()
    await page.context.clear_cookies()
    await sign_in(page, url, "ada", ada.password, then="/hub/spawn")
    await page.get_by_role("button", name="Start").click()
    await open_lab(page, "/user/ada/lab")
    await expect(page.get_by_text("made-here.txt")).to_be_visible(timeout=30_000)
