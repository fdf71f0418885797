"""Chromium by playwright, as a person would use it: desktop or phone, light or dark, with axe at hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.servers.npm import AXE, npm_ci

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--no-proxy-server",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class ChromiumServer:
    """One browser process for many tests; each test gets contexts (people) of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._playwright: Any = None
        self._browser: Browser | None = None

    async def start(self) -> ChromiumServer:
        """Start it."""
        self._playwright = await async_playwright().start()
        self._browser = await self._playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGS, timeout=60_000
        )
        return self

    async def stop(self) -> None:
        """End it and playwright's driver."""
        if self._browser is not None:
            await self._browser.close()
        if self._playwright is not None:
            await self._playwright.stop()

    async def person(self, *, dark: bool = False, phone: bool = False, script: bool = True) -> BrowserContext:
        """A browser profile of its own: cookies, theme, size."""
        assert self._browser is not None
        return await self._browser.new_context(
            color_scheme="dark" if dark else "light",
            viewport=PHONE if phone else DESKTOP,
            java_script_enabled=script,
            # axe is put into pages whose policy forbids foreign scripts; the policy has its own tests.
            bypass_csp=False,
        )

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}


async def axe(page: Page, *, within: str | None = None) -> list[str]:
    """What axe-core finds on the page (or inside one selector): one line per finding, rule, selector and help."""
    source = (npm_ci(AXE) / "axe-core" / "axe.min.js").read_text()
    # evaluate() runs in the page by the debugger, past the page's policy.
    await page.evaluate(source)
    result = await page.evaluate(
        "([within, tags]) => axe.run(within || document, {preload: false, runOnly: {type: 'tag', values: tags}})",
        [within, AXE_TAGS],
    )
    return [
        f"{violation['id']}: {' '.join(map(str, node['target']))}: {violation['help']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


async def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    wider: int = await page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wider


async def sign_in(page: Page, base: str, name: str, password: str, *, then: str = "/hub/home") -> None:
    """Fill the hub's login form and land on ``then``."""
    await page.goto(f"{base}/hub/login?next={quote(then)}")
    await page.fill("#username_input", name)
    await page.fill("#password_input", password)
    await page.click("#login_submit")
    await page.wait_for_url(f"{base}{then}")
