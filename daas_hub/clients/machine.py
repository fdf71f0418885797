"""What this machine has free. Blocks briefly."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available_memory_bytes(meminfo: Path = MEMINFO) -> int:
    """What new processes can take without swapping (``MemAvailable``, proc(5))."""
    for line in meminfo.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    raise ValueError(f"{meminfo} has no MemAvailable")


def idle_cores() -> float:
    """Cores that this process may use, less what waited to run during the last minute; never below 0."""
    return max(0.0, len(os.sched_getaffinity(0)) - os.getloadavg()[0])
