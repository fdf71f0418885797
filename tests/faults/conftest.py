"""A place for servers of this machine, and what its backend saved."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contracts.backend import Saved
from tests.servers.local_place import LocalPlace, local_place


@pytest.fixture
async def place() -> AsyncIterator[LocalPlace]:
    async with local_place() as place:
        yield place


@pytest.fixture
def saved() -> Saved:
    return Saved()
