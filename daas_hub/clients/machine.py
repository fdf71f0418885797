"""What this machine has free. Blocks briefly."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

MEMINFO = Path("/proc/meminfo")
LOCALTIME = Path("/etc/localtime")


def zone(localtime: Path = LOCALTIME) -> tzinfo:
    """The machine's own time zone, whatever this process has been told; UTC where none is set."""
    try:
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def available_memory_bytes(meminfo: Path = MEMINFO) -> int:
    """What new processes can take without swapping (``MemAvailable``, proc(5))."""
    return _from(meminfo, "MemAvailable")


def memory_bytes(meminfo: Path = MEMINFO) -> int:
    """What there is in all (``MemTotal``)."""
    return _from(meminfo, "MemTotal")


def _from(meminfo: Path, wanted: str) -> int:
    for line in meminfo.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == wanted:
            return int(rest.split()[0]) * 1024
    raise ValueError(f"{meminfo} has no {wanted}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def gpus(devices: Path = Path("/dev")) -> int:
    """GPUs for computing, as their drivers show them: NVIDIA's by number, AMD's by their one common device."""
    nvidia = sum(1 for each in devices.glob("nvidia[0-9]*"))
    return nvidia or len(list(devices.glob("dri/render*"))) * (devices / "kfd").exists()


def idle_cores() -> float:
    """Cores that this process may use, less what waited to run during the last minute; never below 0."""
    return max(0.0, cores() - os.getloadavg()[0])
