"""The steps of one start, for the progress page: kept while the start is pending, replayed after a reload."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from datetime import datetime

from daas_hub.core.models import Event


class Steps:
    """An append-only list of events that any number of readers follow; ``finish`` ends them all."""

    def __init__(self) -> None:
        self._events: list[dict[str, object]] = []
        self._changed = asyncio.Condition()
        self._finished = False
        self._progress = 0
        self._began_at: datetime | None = None

    async def add(self, event: Event) -> None:
        """Append one step. The bar never goes back and never reaches 100 before the hub says so."""
        async with self._changed:
            if event.progress is not None:
                self._progress = max(self._progress, min(event.progress, 95))
            self._began_at = self._began_at or event.at
            after_s = max(0, round((event.at - self._began_at).total_seconds()))
            shown = _html(event, after_s)
            self._events.append({"progress": self._progress, "message": event.message, "html_message": shown})
            self._changed.notify_all()

    async def finish(self) -> None:
        """Let every reader end."""
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    async def follow(self) -> AsyncIterator[dict[str, object]]:
        """Every step so far, then each new one, in the form of JupyterHub's progress events."""
        shown = 0
        while True:
            async with self._changed:
                while len(self._events) <= shown and not self._finished:
                    await self._changed.wait()
                new, shown = self._events[shown:], len(self._events)
                over = self._finished
            for step in new:
                yield step
            if over:
                return


def _html(event: Event, after_s: int) -> str:
    """A step as the progress page shows it: when, in plain words, and what was said about it folded under it."""
    words = f'<span class="text-body-secondary me-2">{after_s} s</span>{html.escape(event.message)}'
    if not event.detail:
        return words
    return f"{words}<details><summary>Details</summary><code>{html.escape(event.detail)}</code></details>"
