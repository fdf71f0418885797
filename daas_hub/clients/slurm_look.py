"""One look at a time for the whole hub, however many ask: who can be content with an answer that is there gets it.

Each caller says how old an answer may be, counted from when its question was put: so nobody is told what was before
the moment that it asked about. An outcome counts for everybody whom it is young enough for, a failure like an answer.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, NoReturn, TypeVar

from daas_hub.core.errors import BackendUnavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Looked(Generic[T]):
    """A good answer."""

    value: T
    as_of: datetime
    """When its question was put, for people."""
    began_s: float
    """The same on the clock of the looks."""


@dataclass(frozen=True)
class _Failed:
    error: Exception
    began_s: float


class SharedLook(Generic[T]):
    """Asks ``ask`` when nothing young enough is there. For one event loop."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, clock: Callable[[], float] = time.monotonic) -> None:
        """``ask`` must end by itself, in a time of its own."""
        self._ask, self._clock = ask, clock
        self._good: Looked[T] | None = None
        self._failed: _Failed | None = None
        self._running: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._closed = False

    @property
    def last(self) -> Looked[T] | None:
        """The last good answer, however old; None: there was none yet."""
        return self._good

    @property
    def last_age_s(self) -> float | None:
        """How old the last good answer is, in seconds."""
        return None if self._good is None else self._clock() - self._good.began_s

    @property
    def failing(self) -> Exception | None:
        """Why the newest look failed; None where it did not."""
        return None if self._failed is None else self._failed.error

    async def get(self, max_age_s: float) -> T:
        """An answer that is at most so old, in seconds, as of now: 0 is one whose question is put from now on.

        Raises what the look raised; an older answer never takes the place of a failed one.
        """
        since_s = self._clock() - max_age_s
        while True:
            if self._good is not None and self._good.began_s >= since_s:
                return self._good.value
            if self._failed is not None and self._failed.began_s >= since_s:
                _raise(self._failed.error)
            if self._closed:
                raise BackendUnavailable("The hub ends.", reason="closed")
            if self._running is None:
                self._running = asyncio.create_task(self._look())
                self._over = asyncio.Event()
                self._running.add_done_callback(partial(_tell, self._over))
            # It may have begun too early for this caller: then its end is only the moment for the next one. A caller
            # that is cancelled does not end what others wait for. A thousand wait for one event, as that is cheap.
            await self._over.wait()

    async def _look(self) -> None:
        # The first step runs after its first caller has asked, and before its question is put.
        began_s, as_of = self._clock(), datetime.now(UTC)
        try:
            value = await self._ask()
        except Exception as error:
            self._failed = _Failed(error, began_s)
        else:
            self._good, self._failed = Looked(value, as_of, began_s), None
        finally:
            self._running = None

    async def close(self) -> None:
        """End the look that runs; who waits for it, or asks later, gets BackendUnavailable."""
        self._closed = True
        if (running := self._running) is not None:
            running.cancel()
            await asyncio.wait({running})


def _tell(over: asyncio.Event, _: object) -> None:
    over.set()


def _raise(error: Exception) -> NoReturn:
    # A copy for each caller: raising the same one again would lengthen its traceback each time.
    try:
        raise copy.copy(error) from error
    except TypeError:
        raise error from None
