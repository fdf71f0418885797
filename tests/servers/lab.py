"""JupyterLab as a person uses it, through a browser page."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

SLOW_MS = 60_000


async def open_lab(page: Page, url: str) -> None:
    """Wait until JupyterLab stands in the page: its list of files is shown."""
    await page.wait_for_url(re.compile(re.escape(url)), timeout=SLOW_MS)
    await page.locator(".jp-DirListing-content").first.wait_for(timeout=SLOW_MS)


async def new_notebook(page: Page) -> None:
    """Open a Python notebook and wait for its kernel: Lab drops a cell that is run before that."""
    await page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    await expect(page.get_by_text("| Idle")).to_be_visible(timeout=SLOW_MS)


async def run_cell(page: Page, code: str) -> str:
    """Type into the last cell, run it, and return what it printed."""
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cell = cells.last
    await cell.locator(".cm-content").click()
    await page.keyboard.insert_text(code)
    await page.keyboard.press("Shift+Enter")
    output = cells.nth(-2).locator(".jp-OutputArea-output")
    await output.first.wait_for(timeout=SLOW_MS)
    return "\n".join(await output.all_inner_texts())
