"""The bounded threads in which the hub and its services call the ledger: the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import ParamSpec, TypeVar

from daas_hub.core.errors import LedgerBusy

P = ParamSpec("P")
T = TypeVar("T")

MAX_WORKERS = 4
"""More would only queue at the ledger's one writer; fewer would let one slow read hold up every poll."""


class LedgerPool:
    """Runs ledger calls in at most ``max_workers`` threads; further ones queue."""

    def __init__(self, max_workers: int = MAX_WORKERS) -> None:
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="ledger")

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await ``fn(*args, **kwargs)``. A cancelled call that already runs goes on to its end, unseen."""
        call = functools.partial(fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def wait(self, within_s: float, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``fn(*args, **kwargs)``, waited for by the calling thread. Raises LedgerBusy after ``within_s`` seconds."""
        call = self._threads.submit(fn, *args, **kwargs)
        try:
            return call.result(within_s)
        except FutureTimeout as error:
            call.cancel()
            raise LedgerBusy("The ledger does not answer just now. Try again.", retry_after_s=2) from error

    def close(self) -> None:
        """Let go of the threads: calls that wait are dropped, those that run are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
