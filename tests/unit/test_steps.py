"""The progress page's steps: replayed, in order, never going back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from daas_hub.backends.steps import Steps as BackendSteps
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
    assert [(e["progress"], e["message"]) for e in await late] == [(10, "one"), (50, "two"), (50, "three")]


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


async def test_a_step_shows_when_it_came_and_folds_what_was_said_about_it() -> None:
    steps = Steps()
    await steps.add(event("Pulling <b>", 10))
    later = datetime(2026, 1, 1, 0, 0, 12, tzinfo=UTC)
    await steps.add(Event(at=later, message="Waiting for a node", detail="0/1 nodes: <script>"))
    await steps.finish()
    first, second = (str(e["html_message"]) for e in await _read(steps))
    assert first.endswith("0 s</span>Pulling &lt;b&gt;")
    assert ">12 s</span>Waiting for a node<details>" in second
    assert "<code>0/1 nodes: &lt;script&gt;</code>" in second


async def test_what_replaces_a_step_takes_its_place_also_where_it_was_read_already() -> None:
    steps, now = Steps(), datetime.now(UTC)
    assert await steps.add(event("one"))
    early = steps.follow()
    assert (await anext(early))["step"] == 0
    assert await steps.add(Event(now, "number 3", as_of=now - timedelta(seconds=100), replaces="line"))
    old = await anext(early)
    assert not await steps.add(Event(now, "number 2", as_of=now, replaces="line"))
    young = await anext(early)
    assert (old["step"], young["step"], young["estimated_at"]) == (1, 1, now.isoformat(timespec="seconds"))
    assert 'data-age-s="100">(estimated 100 s ago)' in str(old["html_message"])
    assert "(estimated 0 s ago)" in str(young["html_message"])
    # Another matter is another step, and so is the same one after it.
    assert await steps.add(event("two"))
    assert await steps.add(Event(now, "number 1", replaces="line"))
    await steps.finish()
    assert [e["message"] for e in await _read(steps)] == ["one", "number 2", "two", "number 1"]


async def test_a_backends_step_is_replaced_or_said_once() -> None:
    steps, now = BackendSteps(), datetime.now(UTC)
    reader = steps.follow()
    steps.add("waits", 45)
    steps.add("waits", 45)
    steps.add("at 14:20", 45, as_of=now - timedelta(seconds=9), replaces="job")
    first = [await anext(reader), await anext(reader)]
    steps.add("at 14:20", 45, as_of=now, replaces="job")
    steps.add("at 14:20", 45, as_of=now, replaces="job")
    steps.finish()
    assert [one.message for one in first] == ["waits", "at 14:20"]
    assert [(one.message, one.as_of) async for one in reader] == [("at 14:20", now)]
    assert [one.message async for one in steps.follow()] == ["waits", "at 14:20"]


async def test_it_is_known_whether_somebody_looks() -> None:
    steps = Steps()
    await steps.add(event("one"))
    looks = asyncio.ensure_future(steps.watched())
    await asyncio.sleep(0)
    assert not looks.done()
    reader = steps.follow()
    await anext(reader)
    await looks
    await steps.watched()
    await reader.aclose()
    looks = asyncio.ensure_future(steps.watched())
    await asyncio.sleep(0)
    assert not looks.done()
    looks.cancel()


async def _read(steps: Steps) -> list[dict[str, object]]:
    return [e async for e in steps.follow()]
