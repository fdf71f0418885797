"""Where questions to the directory wait: a bounded queue with a bounded number of threads, and what ends a question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, TypeVar

from daas_hub.core.errors import DirectoryBusy

from .directory_session import Address, Session, cut, session, unavailable

T = TypeVar("T")

PLACES = 32
"""Questions on their way or waiting, for each thread; more are refused. A lecture begins: 8 threads take 256."""


class Turn:
    """One server's part of a question: who is asked, and how that is ended from outside."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.finished = False
        self._connections: list[Any] = []
        self._over = False

    def session(self, uri: str | None = None) -> AbstractContextManager[Session]:
        """A conversation with this server, or with one that it referred to."""
        return session(replace(self.address, uri=uri or self.address.uri), self.register)

    def release(self) -> None:
        """Its connections are somebody else's from now on, or closed."""
        self._connections.clear()

    def end(self) -> None:
        """Cut its connections from outside, and let it open no other ones."""
        self._over = True
        for connection in list(self._connections):
            cut(connection)

    def register(self, connection: Any) -> None:
        """A connection of this part, from now on. Raises DirectoryUnavailable where its time is over."""
        if self._over:
            raise unavailable(self.address, "its time is over")
        self._connections.append(connection)


class Call:
    """One question, and how it is ended when the directory takes longer than ``within_s`` seconds."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self.over = False
        """Nobody waits any more."""
        self.turn: Turn | None = None
        """With the server that is asked just now, or was asked last."""
        self._until = 0.0
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = self._loop.create_future()
        """Done once a thread has taken it up."""

    @property
    def left_s(self) -> float:
        """Seconds that are left of the whole question."""
        return max(0.0, self._until - time.monotonic())

    def started(self) -> None:
        """In the thread: the time of the question begins."""
        self._until = time.monotonic() + self.within_s

    def ask(self, address: Address, within_s: float) -> Turn:
        """In the thread: turn to a server, for ``within_s`` at most."""
        turn = Turn(address)
        self.turn = turn
        if self.over:
            turn.end()
        self._loop.call_soon_threadsafe(self._loop.call_later, within_s, self._end_turn, turn)
        return turn

    def end(self) -> None:
        """Nobody waits any more: what is open is cut, and nothing else is opened."""
        self.over = True
        if self.turn is not None:
            self.turn.end()

    def begin(self, work: asyncio.Future[Any]) -> None:
        """A thread has it. Its time is not the caller's: who goes away leaves no thread with a server that drips."""
        if not self.begun.done():
            self.begun.set_result(None)
        self._loop.call_later(self.within_s, self._end, work)

    def _end_turn(self, turn: Turn) -> None:
        """Cut, and again until the thread is done with it: it may just be between two connections."""
        if not turn.finished:
            turn.end()
            self._loop.call_later(0.5, self._end_turn, turn)

    def _end(self, work: asyncio.Future[Any]) -> None:
        if not work.done():
            self.end()
            self._loop.call_later(0.5, self._end, work)


class Queue:
    """Threads of one kind of questions. Used from one event loop."""

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = PLACES * threads
        self.waiting = 0
        """Questions on their way or in the queue."""

    @property
    def full(self) -> bool:
        """Whether no further question may wait here."""
        return self.waiting >= self._places

    def begin(self, call: Call, ask: Callable[[], T]) -> asyncio.Future[T]:
        """Let a thread call ``ask`` when one is free; ``call.begun`` tells when."""
        loop = asyncio.get_running_loop()

        def run() -> T:
            loop.call_soon_threadsafe(lambda: call.begin(work))
            return ask()

        self.waiting += 1
        work = loop.run_in_executor(self._threads, run)
        work.add_done_callback(self._answered)
        return work

    def close(self) -> None:
        """Let the threads go; questions on their way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(self, work: asyncio.Future[Any]) -> None:
        self.waiting -= 1
        if not work.cancelled():
            work.exception()


def too_many(address: Address, detail: str) -> DirectoryBusy:
    """The error where this hub's own queue is full: for people, and the one for the log."""
    return DirectoryBusy(
        "Many people sign in just now. Your password was not judged; try again in a moment.",
        log_message=f"directory {address.uri}: {detail}",
        retry_after_s=5,
    )
