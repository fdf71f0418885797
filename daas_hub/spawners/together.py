"""Questions for one thing each that come at the same moment are put as one: a hub that starts has thousands of them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
T = TypeVar("T")

MOST = 500
"""So many at once: a longer transaction would keep other writers waiting."""


class Together(Generic[A, T]):
    """Puts what is asked in one turn of the loop as one question; while ``at_once`` of them run, what is asked then
    waits and is the next one. Who asks alone waits for nobody. For one event loop."""

    def __init__(self, ask: Callable[[Sequence[A]], Awaitable[Sequence[T | Exception]]], *, at_once: int) -> None:
        """``ask`` answers in the order of what it was asked, with an error for whom it concerns; what it raises
        concerns all of them."""
        self._ask, self._at_once = ask, at_once
        self._waiting: list[tuple[A, asyncio.Future[T]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, asked: A) -> T:
        """The answer to it, from a question that is put after this was called.

        A cancellation waits until the question is over: what was begun is then visible to whoever cleans up.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting.append((asked, answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._begin)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.wait([answer])
            answer.exception()
            raise

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            these, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            task = asyncio.ensure_future(self._put(these))
            self._running.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()

    async def _put(self, these: Sequence[tuple[A, asyncio.Future[T]]]) -> None:
        try:
            said: Sequence[T | Exception] = await self._ask([asked for asked, _ in these])
        except Exception as error:
            said = [error] * len(these)
        except asyncio.CancelledError:
            # The loop ends.
            for _, answer in these:
                answer.cancel()
            raise
        for (_, answer), one in zip(these, said, strict=True):
            if isinstance(one, Exception):
                # A copy for each: raising the same one again would lengthen its traceback each time.
                answer.set_exception(copy.copy(one))
            else:
                answer.set_result(one)
