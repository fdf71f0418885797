"""What one side of P6 and P7 measures of itself. Only the standard library: both sides' environments import it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Gaps:
    """The longest time that the loop did not run, in seconds, since ``worst_s`` was set to 0."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.every_s = 0.002
        """How often it looks; looking costs CPU, too."""
        self.task = asyncio.get_running_loop().create_task(self._measure())

    async def _measure(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(self.every_s)
            self.worst_s = max(self.worst_s, time.perf_counter() - asked - self.every_s)


async def measure(start: Callable[[], Awaitable[int]], idle_s: float) -> None:
    """Print JSON: the cold list (CPU, wall, longest gap, memory, how many objects), then ``idle_s`` idle seconds."""
    before = rss_bytes()
    gaps = Gaps()
    await asyncio.sleep(0.1)
    gaps.worst_s = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    found = await start()
    # What the list leaves for later counts, too.
    await asyncio.sleep(0.2)
    result = {
        "found": found,
        "cold_cpu_s": time.process_time() - cpu,
        "cold_wall_s": time.perf_counter() - wall,
        "cold_gap_s": gaps.worst_s,
        "rss_bytes": rss_bytes() - before,
    }
    gaps.every_s = 0.1
    await asyncio.sleep(0.1)
    gaps.worst_s = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(idle_s)
    result["idle_cpu"] = (time.process_time() - cpu) / (time.perf_counter() - wall)
    result["idle_gap_s"] = gaps.worst_s
    gaps.task.cancel()
    print(json.dumps(result), flush=True)
