"""One controller for a whole run of tests. Whoever changes people of it puts them back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.servers.samba import Samba


@pytest.fixture(scope="session")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samba]:
    """A real Active Directory."""
    server = asyncio.run(Samba(tmp_path_factory.mktemp("samba")).start())
    yield server
    asyncio.run(server.stop())
