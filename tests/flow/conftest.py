"""A site for the module, so that its start is paid once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.flow.site import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Real slapd, real hub with the Node proxy, JupyterLab as real uids."""
    made = Site()
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())
