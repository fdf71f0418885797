"""Which environments of the cache folder go: those that nobody has used for long, and all but the newest of a kind.

As its neighbour setup.py it runs before anything is installed: only the standard library, and no import of daas_hub.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

KEEP_S = 14 * 24 * 3600.0
KEEP_OF_A_KIND = 3
NAME = re.compile(r"((?:check|demo|test|(?:peer|tool)-[a-z-]+))-[0-9a-f]{12}")
USED = "used"
"""The file whose time says when an environment was last used."""


def hold(folder: Path) -> int:
    """Say that an environment is in use, until this process ends, also when it becomes another program.

    Returns the file descriptor that holds it.
    """
    (folder / USED).touch()
    descriptor = os.open(_holders(folder), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)
    return descriptor


def _holders(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.users")


def choose(last_used: dict[str, float], now: float) -> list[str]:
    """The names of environments to remove, the longest unused first. ``last_used``: name → seconds since the epoch."""
    gone = []
    kinds: dict[str, list[str]] = {}
    for name in sorted(last_used, key=lambda name: last_used[name], reverse=True):
        if (found := NAME.fullmatch(name)) is None:
            continue
        kept = kinds.setdefault(found[1], [])
        if len(kept) < KEEP_OF_A_KIND and last_used[name] >= now - KEEP_S:
            kept.append(name)
        else:
            gone.append(name)
    return gone[::-1]


def prune(cache: Path, *, now: float | None = None, say: Callable[[str], None] = print) -> list[Path]:
    """Remove what ``choose`` says, but nothing that somebody makes or uses; returns what was removed.

    What cannot be removed stays: a start must not fail for it.
    """
    names = choose({path.name: _last_used(path) for path in cache.iterdir() if path.is_dir()}, now or time.time())
    folders = [cache / name for name in names]
    busy = in_use(folders) if folders else set()
    return [folder for folder in folders if folder not in busy and _remove(folder, say)]


def _last_used(folder: Path) -> float:
    for path in (folder / USED, folder / "complete", folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _remove(folder: Path, say: Callable[[str], None]) -> bool:
    try:
        with folder.with_name(f"{folder.name}.lock").open("a") as made, _holders(folder).open("a") as held:
            for file in (made, held):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # First: what is half removed when this is killed must not be taken for whole.
            (folder / "complete").unlink(missing_ok=True)
            shutil.rmtree(folder)
    except OSError:  # also: somebody holds it
        return False
    say(f"Removed {folder}, which was not used any more.")
    return True


def in_use(folders: Iterable[Path], proc: Path = Path("/proc")) -> set[Path]:
    """Those that a process runs in, also one of an older version, which holds no lock. Only root sees all of them."""
    marks = {folder: f"{folder}/".encode() for folder in folders}
    found: set[Path] = set()
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        for name in ("cmdline", "environ", "maps"):
            with suppress(OSError):
                content = (process / name).read_bytes()
                found |= {folder for folder, mark in marks.items() if mark in content}
    return found
