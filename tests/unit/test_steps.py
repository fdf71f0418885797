"""The progress page's steps: replayed, in order, never going back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from daas_hub.core.models import Event
from daas_hub.spawners.steps import Steps


def event(message: str, progress: int | None = None) -> Event:
    return Event(at=datetime(2026, 1, 1, tzinfo=UTC), message=message, progress=progress)


async def test_every_reader_sees_every_step_from_the_first() -> None:
    steps = Steps()
    await steps.add(event("one", 10))
    early = asyncio.ensure_future(_read(steps))
    await steps.add(event("two", 50))
    late = asyncio.ensure_future(_read(steps))
    await steps.add(event("three", 30))
    await steps.finish()
    assert [e["message"] for e in await early] == ["one", "two", "three"]
    assert await late == [
        {"progress": 10, "message": "one"},
        {"progress": 50, "message": "two"},
        {"progress": 50, "message": "three"},
    ]


async def test_the_bar_never_goes_back_and_never_is_full() -> None:
    steps = Steps()
    reader = asyncio.ensure_future(_read(steps))
    for progress in (20, 10, 100):
        await asyncio.sleep(0)
        await steps.add(event("x", progress))
    await steps.finish()
    seen = [e["progress"] for e in await reader]
    assert seen == sorted(seen)
    assert max(seen) == 95


async def _read(steps: Steps) -> list[dict[str, object]]:
    return [e async for e in steps.follow()]
