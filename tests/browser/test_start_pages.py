"""A start as a person sees it: its steps while it is pending, its cancel button, why it failed, after a reload too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from daas_hub.core.models import LaunchState
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "chromium", "node"), pytest.mark.timeout(240)]

HOSTILE = "<script>window.hacked=1</script>"
SHOTS = os.environ.get("DAAS_TEST_SHOTS", "")
"""A folder for pictures of what a person sees, if somebody wants to look."""
MORE = """
from daas_hub.core.models import Event
from datetime import UTC, datetime
from daas_hub.backends.local import LocalBackend

class Talking(LocalBackend):
    async def events(self, handle):
        detail = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. " + {hostile!r} + " " + "long-" * 60
        yield Event(datetime.now(UTC), "Waiting for a node: none has 2 GPUs free.", detail, 45)
        async for event in super().events(handle):
            yield event

c.DaasHub.backends = {{"local": Talking}}
c.Talking.wait_policy_s = 100
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Servers that come up once ``go`` is in the home, and end with status 3 where ``fail`` is there first."""
    waiting = program(reachable_python(), until="{HOME}/go", print=f"{HOSTILE} token={{JUPYTERHUB_API_TOKEN}}")
    # A shell before it: which of both happens is decided while the start is pending.
    first = 'while [ ! -e "$HOME/go" ] && [ ! -e "$HOME/fail" ]; do sleep 0.05; done; '
    first += f'[ -e "$HOME/fail" ] && {{ echo "{HOSTILE} no luck"; exit 3; }}; exec "$@"'
    made = Site(cmd=["/bin/sh", "-c", first, "sh", *waiting], more=MORE.format(hostile=HOSTILE))
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


async def person(site: Site, browser: ChromiumServer, name: str, *, dark: bool, phone: bool) -> Page:
    page = await (await browser.person(dark=dark, phone=phone)).new_page()
    await sign_in(page, site.hub.url, name, site.person(name).password)
    return page


async def looked_at(page: Page, name: str, *, within: str | None = None) -> None:
    """What must hold on every page: no finding, nothing wider than the window, no foreign script."""
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert await axe(page, within=within) == [], name
    assert await overflow(page) <= 0, name
    assert await page.evaluate("() => window.hacked") is None


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_start_that_fails_is_told_step_by_step(
    site: Site, browser: ChromiumServer, dark: bool, phone: bool
) -> None:
    look = f"{'dark' if dark else 'light'}-{'phone' if phone else 'desktop'}"
    page = await person(site, browser, "bob", dark=dark, phone=phone)
    (site.home("bob") / "fail").unlink(missing_ok=True)
    await page.goto(f"{site.hub.url}/hub/spawn")
    await page.get_by_role("button", name="Start").click()
    await page.wait_for_url("**/hub/spawn-pending/bob*")
    step = page.locator("#progress-log > li", has_text="Waiting for a node: none has 2 GPUs free.")
    await expect(step.locator("details > summary")).to_be_visible()
    await expect(step.locator("code")).not_to_be_visible()
    # The first one is the hub's own.
    await expect(page.locator("#progress-log > li").nth(1)).to_contain_text("0 s")
    await step.locator("summary").click()
    await expect(step.locator("code")).to_contain_text(f"3 Insufficient nvidia.com/gpu. {HOSTILE}")
    await looked_at(page, f"pending-{look}")
    # A reload shows the same steps once more, each once.
    await page.reload()
    await expect(step).to_have_count(1)
    (site.home("bob") / "fail").touch()
    await expect(page.locator("#daas-after")).to_be_visible(timeout=30_000)
    await expect(page.locator("#daas-cancel")).not_to_be_visible()
    # Said once, as the last step.
    await expect(page.locator("#progress-log > li", has_text="failed with exit status 3")).to_have_count(1)
    await expect(page.locator("#daas-heading")).to_have_text("Your server did not start")
    await looked_at(page, f"failing-{look}")
    await page.click("#daas-after")
    for path in ("", "/hub/home", "/hub/spawn"):
        if path:
            await page.goto(site.hub.url + path)
        failed = page.locator(".daas-failed").first
        await expect(failed).to_contain_text("failed with exit status 3")
        await expect(failed.locator("ol")).not_to_be_visible()
        await failed.locator("> details > summary").click()
        await expect(failed.locator("ol > li").first).to_contain_text("0 s")
        await looked_at(page, f"failed-{path.rpartition('/')[2] or 'not-running'}-{look}")
    await failed.get_by_role("link", name="Log of the server").click()
    await expect(page.locator("#log")).to_contain_text(f"{HOSTILE} no luck")
    await looked_at(page, f"log-{look}")
    await page.get_by_role("link", name="The launch").click()
    await expect(page.locator("#events")).to_contain_text("Waiting for a node")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download").click()
    assert (await download.value).suggested_filename.endswith(".json")
    await looked_at(page, f"launch-{look}")


@pytest.mark.parametrize("cancelled", ["", "extra"], ids=["default", "named"])
async def test_the_button_cancels_the_server_whose_page_it_is_on(
    site: Site, browser: ChromiumServer, cancelled: str
) -> None:
    page = await person(site, browser, "dora", dark=False, phone=False)
    go, other = site.home("dora") / "go", "extra" if cancelled == "" else ""
    go.unlink(missing_ok=True)
    starts = [asyncio.create_task(site.hub.start_server("dora", name)) for name in (cancelled, other)]
    await until(lambda: len(site.servers("dora")) == 2, what="both began")
    await page.goto(f"{site.hub.url}/hub/spawn-pending/dora{f'/{cancelled}' if cancelled else ''}")
    await page.click("#daas-cancel")
    await page.wait_for_url(f"{site.hub.url}/hub/home", timeout=30_000)
    go.touch()
    for start in starts:
        await start
    newest = {row.server_name: row for row in reversed(site.launches()) if row.user_name == "dora"}
    await until(lambda: len(site.servers("dora")) == 1, what="one is left")
    assert newest[other].state is LaunchState.RUNNING
    assert (await site.hub.server("dora", other) or {})["ready"]
    await until(
        lambda: next(r for r in site.launches() if r.id == newest[cancelled].id).state is LaunchState.ENDED,
        what="the cancelled one has ended",
    )
    await site.stop_servers()
    await until(lambda: not site.servers("dora"), what="nothing is left")
