"""A site for the module, so that its start is paid once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account may enter (pytest's own are private)."""
    path = Path(tempfile.mkdtemp(prefix="daas-test-demo-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
