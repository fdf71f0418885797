"""Fixtures for everything that a person sees. Others may use them: `browser`, `page`, `dark_page`, `phone_page`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Page

from tests.servers.browser import ChromiumServer


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[ChromiumServer]:
    """A Chromium process for one test."""
    server = await ChromiumServer(tmp_path / "chromium.log").start()
    yield server
    await server.stop()


async def _page(browser: ChromiumServer, *, dark: bool = False, phone: bool = False) -> AsyncIterator[Page]:
    person = await browser.person(dark=dark, phone=phone)
    yield await person.new_page()
    await person.close()


@pytest_asyncio.fixture
async def page(browser: ChromiumServer) -> AsyncIterator[Page]:
    """A page, light, 1280 px wide."""
    async for made in _page(browser):
        yield made


@pytest_asyncio.fixture
async def dark_page(browser: ChromiumServer) -> AsyncIterator[Page]:
    """A page, dark."""
    async for made in _page(browser, dark=True):
        yield made


@pytest_asyncio.fixture
async def phone_page(browser: ChromiumServer) -> AsyncIterator[Page]:
    """A page 390 px wide."""
    async for made in _page(browser, phone=True):
        yield made
