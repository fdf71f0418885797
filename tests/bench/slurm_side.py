"""What one side of the SLURM goals measures of itself, asked line by line. Only the standard library: both sides'
environments import it, and each runs in a PID namespace of its own, so that what it makes can be counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kube_measure import Gaps as OftenGaps
from kube_measure import cpu_s

Handler = Callable[..., Awaitable[Mapping[str, Any]]]
FIRST_PID = 300
"""Where the kernel goes on when it has given its last number (RESERVED_PIDS)."""


class Gaps(OftenGaps):
    """Looks seldom enough to cost next to nothing beside what is measured."""

    EVERY_S = 0.02


def newest_task() -> int:
    """The number that this PID namespace gave last, to a process or a thread."""
    return int(Path("/proc/loadavg").read_text().split()[-1])


def made_since(before: int, now: int, most: int) -> int:
    """Tasks made between two looks: numbers go up to ``most`` and then begin anew."""
    return now - before if now >= before else now - before + most - FIRST_PID


async def metered(work: Awaitable[Mapping[str, Any]]) -> dict[str, Any]:
    """Await it: what it cost this process and its children, and what it says itself."""
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    gaps = Gaps()
    await asyncio.sleep(0)
    used, task, began = cpu_s(), newest_task(), time.perf_counter()
    said = await work
    wall_s = time.perf_counter() - began
    found = {"wall_s": wall_s, "cpu_s": cpu_s() - used, "tasks": made_since(task, newest_task(), most)}
    return {**found, **gaps.found("loop"), **said}


async def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer each line of standard input, a JSON list of a handler's name and its arguments, with a line of JSON."""
    lines = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        name, *arguments = json.loads(line)
        print(json.dumps(await metered(handlers[name](*arguments))), flush=True)
