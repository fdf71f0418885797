"""Where a server runs, as a person sees it: she chooses in the form, reads why while it starts and afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.flow.placing import fill, two_places
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in

pytestmark = [pytest.mark.needs("root", "slapd", "chromium", "node"), pytest.mark.timeout(240)]

SHOTS = os.environ.get("DAAS_TEST_SHOTS", "")
"""A folder for pictures of what a person sees, if somebody wants to look."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Servers that come up once ``go`` is in the home."""
    made = two_places(until="{HOME}/go")
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


async def looked_at(page: Page, name: str, *, within: str | None = None) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert await axe(page, within=within) == [], name
    assert await overflow(page) <= 0, name


@pytest.mark.parametrize(("name", "look"), [("ada", "light-desktop"), ("bob", "dark-phone")])
async def test_she_chooses_a_place_and_reads_why(site: Site, browser: ChromiumServer, name: str, look: str) -> None:
    fill(site, first={"free_cores": 0, "starts_in_s": 1200}, second={"free_cores": 0, "age_s": 300})
    person = await browser.person(dark="dark" in look, phone="phone" in look)
    page = await person.new_page()
    await sign_in(page, site.hub.url, name, site.person(name).password)
    await page.goto(f"{site.hub.url}/hub/spawn")
    where = page.get_by_label("Where it runs").first
    await expect(where).to_have_value("auto")
    await expect(where.locator("option").first).to_contain_text("Automatic: on first at about")
    await looked_at(page, f"placement-form-{look}", within="#daas-spawn-form")
    await where.select_option("second")
    await page.get_by_role("button", name="Start").click()
    await page.wait_for_url(f"**/hub/spawn-pending/{name}*")
    step = page.locator("#progress-log > li", has_text="On second perhaps: what is free was last seen 5 min")
    await expect(step).to_contain_text("as you chose.")
    await looked_at(page, f"placement-pending-{look}")
    row = next(each for each in site.launches() if each.user_name == name)
    await page.goto(f"{site.hub.url}/services/daas/launches/{row.id}")
    await expect(page.locator("#why-there")).to_contain_text("On second perhaps: what is free was last seen 5 min")
    await looked_at(page, f"placement-launch-{look}")
    (site.home(name) / "go").touch()
