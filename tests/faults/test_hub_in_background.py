"""A hub that a shell started in the background, where SIGINT is ignored, and that is stopped as soon as it is up."""

from __future__ import annotations

import time

import pytest

from tests.faults.aftermath import faulty_site

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(120)]

ONE_SERVICE_THAT_MISSED_IT_S = 10.0
"""What the hub waits for each service that does not react to SIGINT."""


async def test_its_services_end_at_once_although_they_are_just_starting() -> None:
    async with faulty_site("ada", proxy=True) as site:
        site.hub.wrapper = ["env", "--ignore-signal=INT"]
        await site.hub.stop()
        await site.hub.start()
        began = time.monotonic()
        await site.hub.stop()
        assert time.monotonic() - began < ONE_SERVICE_THAT_MISSED_IT_S
