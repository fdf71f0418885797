"""The steps of one start, for whoever follows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from daas_hub.core.models import Event


class Steps:
    """An append-only list that any number of readers follow from its beginning."""

    def __init__(self) -> None:
        self._events: list[tuple[int, Event]] = []
        self._number = 0
        self._finished = False
        self._changed = asyncio.Event()
        self.asked: Mapping[str, float] = {}
        """What the server asks of a node, for the step that tells what no node has."""

    @property
    def finished(self) -> bool:
        """Whether the start is over."""
        return self._finished

    def add(
        self,
        message: str,
        progress: int | None = None,
        detail: str = "",
        *,
        as_of: datetime | None = None,
        replaces: str = "",
    ) -> None:
        """Append a step; ``progress`` is 0…100 and grows; None leaves the bar where it is.

        What was just said is not said again: a scheduler repeats itself for each change in its cluster. ``as_of`` and
        ``replaces`` are those of ``Event``.
        """
        event = Event(datetime.now(UTC), message, detail, progress, as_of, replaces)
        last = self._events[-1][1] if self._events else None
        if last is not None and (last.message, last.detail, last.as_of) == (message, detail, as_of):
            return
        if last is not None and replaces and last.replaces == replaces:
            self._events.pop()
        self._number += 1
        self._events.append((self._number, event))
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
            for number, event in [one for one in self._events if one[0] > shown]:
                shown = number
                yield event
            if shown < self._number:
                continue
            if self._finished:
                return
            await changed.wait()
