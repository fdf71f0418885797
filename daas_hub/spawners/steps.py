"""The steps of one start, for the progress page: kept while the start is pending, replayed after a reload."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

from daas_hub.core.models import Event


@dataclass(frozen=True)
class _Step:
    number: int
    """Of the step; one that takes the place of another has that one's."""
    change: int
    event: Event
    after_s: int
    progress: int

    def shown(self, now: datetime) -> dict[str, object]:
        """In the form of JupyterHub's progress events; ``step`` tells which one it takes the place of."""
        told = {"progress": self.progress, "message": self.event.message, "step": self.number}
        if self.event.as_of is None:
            return {**told, "html_message": _html(self.event, self.after_s, "")}
        age_s = max(0, round((now - self.event.as_of).total_seconds()))
        # The page makes it older by its own clock's pace; the two clocks need not agree.
        age = f' <span class="daas-age" data-age-s="{age_s}">(estimated {age_s} s ago)</span>'
        estimated = {"estimated_at": self.event.as_of.isoformat(timespec="seconds")}
        return {**told, **estimated, "html_message": _html(self.event, self.after_s, age)}


class Steps:
    """An append-only list of events that any number of readers follow; ``finish`` ends them all."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._changes = 0
        self._changed = asyncio.Condition()
        self._finished = False
        self._progress = 0
        self._began_at: datetime | None = None
        self._readers = 0

    async def watched(self) -> None:
        """Return once, or while, somebody follows."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._readers > 0)

    async def add(self, event: Event) -> bool:
        """Append one step; False where it takes the place of the last one.

        The bar never goes back and never reaches 100 before the hub says so.
        """
        async with self._changed:
            if event.progress is not None:
                self._progress = max(self._progress, min(event.progress, 95))
            self._began_at = self._began_at or event.at
            last = self._steps[-1] if self._steps else None
            again = last is not None and event.replaces != "" and last.event.replaces == event.replaces
            number = len(self._steps) - 1 if again else len(self._steps)
            after_s = max(0, round((event.at - self._began_at).total_seconds()))
            if again and last is not None:
                after_s = last.after_s
            self._changes += 1
            self._steps[number:] = [_Step(number, self._changes, event, after_s, self._progress)]
            self._changed.notify_all()
            return not again

    async def finish(self) -> None:
        """Let every reader end."""
        async with self._changed:
            self._finished = True
            self._changed.notify_all()

    async def follow(self) -> AsyncGenerator[dict[str, object], None]:
        """Every step so far, then each new one, in the form of JupyterHub's progress events."""
        seen, over = 0, False
        async with self._changed:
            self._readers += 1
            self._changed.notify_all()
        try:
            while not over:
                async with self._changed:
                    while self._changes <= seen and not self._finished:
                        await self._changed.wait()
                    new = [step for step in self._steps if step.change > seen]
                    seen, over = self._changes, self._finished
                for step in new:
                    yield step.shown(datetime.now(UTC))
        finally:
            self._readers -= 1


def _html(event: Event, after_s: int, age: str) -> str:
    """A step as the progress page shows it: when, in plain words, and what was said about it folded under it."""
    words = f'<span class="text-body-secondary me-2">{after_s} s</span>{html.escape(event.message)}{age}'
    if not event.detail:
        return words
    return f"{words}<details><summary>Details</summary><code>{html.escape(event.detail)}</code></details>"
