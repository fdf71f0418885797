"""A slapd behind a fault proxy, and the loop's longest silence, for the tests of a directory that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from daas_hub.clients.directory import Directory
from tests.contracts.test_directory_slapd import settings
from tests.servers.fault_proxy import FaultProxy
from tests.servers.slapd import Slapd


class Gap:
    """The longest time that the loop did not come round."""

    longest_s = 0.0


@asynccontextmanager
async def loop_gap() -> AsyncIterator[Gap]:
    """Watch the loop for the length of a block."""
    gap = Gap()

    async def watch() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            gap.longest_s, last = max(gap.longest_s, now - last), now

    watching = asyncio.ensure_future(watch())
    try:
        yield gap
    finally:
        watching.cancel()


@asynccontextmanager
async def directory_behind(
    proxy: FaultProxy,
    slapd: Slapd,
    *,
    ca_file: Path | None = None,
    scheme: str = "ldap",
    referral_hosts: frozenset[str] = frozenset(),
    **changes: object,
) -> AsyncIterator[Directory]:
    """A client that asks ``slapd`` through ``proxy``, with times as short as a test's."""
    whole = settings(slapd, f"{scheme}://{proxy.host}:{proxy.port}")
    address = replace(
        whole.address,
        ca_file=str(ca_file or slapd.ca_file),
        connect_within_s=1,
        answer_within_s=2,
        referral_hosts=referral_hosts,
    )
    times = {"login_within_s": 3.0, "hold_down_s": 0.5, "threads": 2}
    directory = Directory(replace(whole, address=address, **{**times, **changes}))  # type: ignore[arg-type]
    try:
        yield directory
    finally:
        directory.close()
