"""What a start waits for, and what it does not: looks at its server, repeated words, steps that are written down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from daas_hub.backends.steps import Steps
from daas_hub.core.errors import LedgerBusy
from daas_hub.core.looks import LOOK_EVERY_S, LOOKS_PER_S, SELDOM_LOOK_S, look_every_s
from daas_hub.core.models import Event
from daas_hub.spawners.record import LaunchRecord
from tests.waiting import until


@pytest.mark.parametrize("starts", [1, 12, 13, 100, 5000])
def test_all_starts_together_look_at_their_servers_so_often_and_no_more(starts: int) -> None:
    for waited_s in (0, 2, 600):
        every_s = look_every_s(starts, waited_s)
        assert every_s >= LOOK_EVERY_S
        assert starts / every_s <= LOOKS_PER_S


def test_one_start_looks_often_at_first_and_later_ten_times_a_second() -> None:
    pauses = [look_every_s(1, waited_s) for waited_s in (0, 0.5, 1, 1.5, 2, 600)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (LOOK_EVERY_S, SELDOM_LOOK_S)


async def test_what_was_just_said_is_not_said_again() -> None:
    steps = Steps()
    for words, detail in (("waits", "0/2 nodes"), ("waits", "0/2 nodes"), ("waits", "0/3 nodes"), ("runs", "")):
        steps.add(words, 42, detail)
        steps.add(words, None, detail)
    steps.add("waits", 42, "0/2 nodes")
    steps.finish()
    said = [(step.message, step.detail) async for step in steps.follow()]
    assert said == [("waits", "0/2 nodes"), ("waits", "0/3 nodes"), ("runs", ""), ("waits", "0/2 nodes")]


class Book:
    """A ledger's place for steps; each write waits until it may, and then is refused or not."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.busy = False
        self.may = asyncio.Event()

    def add_events(self, launch_id: str, steps: list[Event]) -> None:
        if self.busy:
            raise LedgerBusy("Busy.")
        self.written.append([step.message for step in steps])

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        await self.may.wait()
        return fn(*args)

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)


def record_on(book: Book) -> LaunchRecord:
    hub: Any = SimpleNamespace(ledger=book, run=book.run, keep=book.keep)
    return LaunchRecord(hub, "launch", logging.getLogger("test"))


def step(message: str) -> Event:
    return Event(at=datetime(2026, 1, 1, tzinfo=UTC), message=message)


async def test_steps_that_come_while_one_is_written_are_written_together_and_in_order() -> None:
    book = Book()
    record = record_on(book)
    record.note(step("one"))
    await until(lambda: not record._unwritten, what="the first one is being written")
    for message in ("two", "three", "four"):
        record.note(step(message))
    book.may.set()
    await record.noted()
    assert book.written == [["one"], ["two", "three", "four"]]
    record.note(step("five"))
    await record.noted()
    assert book.written[2:] == [["five"]]


async def test_steps_that_a_busy_ledger_refuses_are_told_and_the_next_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = Book()
    book.busy = True
    book.may.set()
    record = record_on(book)
    record.note(step("lost"))
    record.note(step("lost, too"))
    await record.noted()
    assert "2 steps of launch launch are not kept" in caplog.text
    book.busy = False
    record.note(step("kept"))
    await record.noted()
    assert book.written == [["kept"]]
