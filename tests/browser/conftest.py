"""Fixtures for everything that a person sees. Others may use them: `browser`, `page`, `dark_page`, `phone_page`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page

from daas_hub.db.ledger import Ledger
from tests.servers.browser import ChromiumServer
from tests.servers.console import ConsoleHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleHub]:
    """A hub with the console, one for the module."""
    made = ConsoleHub(Path(tmp_path_factory.mktemp("hub")))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture
def ledger(hub: ConsoleHub) -> Iterator[Ledger]:
    """The hub's own ledger."""
    opened = Ledger.open(hub.ledger_url)
    yield opened
    opened.close()


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
