"""What one side of a goal measures of itself. Only the standard library: both sides' environments import it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s() -> float:
    """CPU seconds of this process and of all that it has waited for, theirs included."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


class Gaps:
    """The longest time that the loop did not run, in seconds: by the clock, and by the CPU that this thread had in it.

    On a machine with other work the first has its waiting in it, too.
    """

    EVERY_S = 0.002
    """How often it looks; looking costs CPU, too."""

    def __init__(self) -> None:
        self.worst_s = self.worst_cpu_s = 0.0
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def _measure(self) -> None:
        while True:
            asked, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(self.EVERY_S)
            self.worst_s = max(self.worst_s, time.perf_counter() - asked - self.EVERY_S)
            self.worst_cpu_s = max(self.worst_cpu_s, time.thread_time() - cpu)

    def found(self, name: str) -> dict[str, float]:
        """End, and say what was found."""
        self._task.cancel()
        return {f"{name}_gap_s": self.worst_s, f"{name}_gap_cpu_s": self.worst_cpu_s}


async def measure(
    start: Callable[[], Awaitable[Iterable[str]]],
    idle_s: float,
    gap_s: float,
    more: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Print JSON: the cold list (CPU, wall, longest gap, memory, which objects), then the CPU of ``idle_s`` idle
    seconds, then the longest gap in ``gap_s`` more; ``more``: what may come once after the list, its CPU for itself."""
    before = rss_bytes()
    gaps = Gaps()
    await asyncio.sleep(0.1)
    gaps.worst_s = gaps.worst_cpu_s = 0.0
    cpu, wall = time.process_time(), time.perf_counter()
    names = sorted(await start())
    ready_s = time.perf_counter() - wall
    # What the list leaves for later counts, too.
    await asyncio.sleep(0.2)
    result = {
        "found": len(names),
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "cold_cpu_s": time.process_time() - cpu,
        "cold_wall_s": ready_s,
        "rss_bytes": rss_bytes() - before,
        **gaps.found("cold"),
    }
    if more is not None:
        gaps, cpu = Gaps(), time.process_time()
        await more()
        result |= {"more_cpu_s": time.process_time() - cpu, **gaps.found("more")}
    if idle_s:
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(idle_s)
        result["idle_cpu"] = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if gap_s:
        gaps = Gaps()
        await asyncio.sleep(gap_s)
        result |= gaps.found("idle")
    print(json.dumps(result), flush=True)
