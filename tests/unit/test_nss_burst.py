"""Many questions to NSS at once: those of a burst are answered, and one that hangs holds nobody for long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from daas_hub.clients import nss
from daas_hub.core.errors import AccountUnresolved


async def test_a_burst_is_answered_however_many_come_at_once() -> None:
    claims = await asyncio.gather(*(nss.ask("root") for _ in range(8 * nss.MAX_WAITING)))
    assert {claim.uid for claim in claims} == {0}


async def test_where_none_is_answered_further_ones_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(nss, "look_up", lambda name: goes_on.wait(30))
    monkeypatch.setattr(nss, "HANGS_AFTER_S", 0.05)
    monkeypatch.setattr(nss, "WITHIN_S", 60.0)
    held = [asyncio.create_task(nss.ask("root")) for _ in range(nss.MAX_WAITING)]
    try:
        await asyncio.wait(held, timeout=0.2)
        # The fault lasts 30 s and would let an answer take 60: this one does not wait for either.
        with pytest.raises(AccountUnresolved):
            await asyncio.wait_for(nss.ask("root"), 5)
    finally:
        goes_on.set()
        await asyncio.gather(*held, return_exceptions=True)
