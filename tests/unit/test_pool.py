"""The threads for ledger calls are bounded, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading

from daas_hub.db.pool import MAX_WORKERS, LedgerPool


async def test_at_most_four_calls_at_once_and_the_loop_is_free() -> None:
    pool, gate, inside, most = LedgerPool(), threading.Event(), 0, 0
    lock = threading.Lock()
    full = asyncio.Event()
    loop = asyncio.get_running_loop()

    def call(n: int, *, twice: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == MAX_WORKERS:
                loop.call_soon_threadsafe(full.set)
        assert gate.wait(10)
        with lock:
            inside -= 1
        return n * twice

    calls = [asyncio.create_task(pool.run(call, n, twice=2)) for n in range(12)]
    await asyncio.wait_for(full.wait(), 10)  # the loop runs although all threads are taken
    gate.set()
    assert await asyncio.gather(*calls) == [2 * n for n in range(12)]
    assert most == MAX_WORKERS
    pool.close()
