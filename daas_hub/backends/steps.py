"""The steps of one start, for whoever follows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from daas_hub.core.models import Event


class Steps:
    """An append-only list that any number of readers follow from its beginning."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._finished = False
        self._changed = asyncio.Event()
        self.asked: Mapping[str, float] = {}
        """What the server asks of a node, for the step that tells what no node has."""

    def add(self, message: str, progress: int | None = None, detail: str = "") -> None:
        """Append a step; ``progress`` is 0…100 and grows; None leaves the bar where it is.

        What was just said is not said again: a scheduler repeats itself for each change in its cluster.
        """
        if self._events and (self._events[-1].message, self._events[-1].detail) == (message, detail):
            return
        self._events.append(Event(datetime.now(UTC), message, detail, progress))
        self._wake()

    def finish(self) -> None:
        """The start is over: readers end."""
        self._finished = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[Event]:
        """All steps so far, then each new one."""
        shown = 0
        while True:
            changed = self._changed
            for event in self._events[shown:]:
                shown += 1
                yield event
            if self._finished and shown == len(self._events):
                return
            if shown == len(self._events):
                await changed.wait()
