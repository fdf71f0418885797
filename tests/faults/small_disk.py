"""A file system of a few megabytes that a test fills and empties."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


class SmallDisk:
    """Mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave not one free byte."""
        with (self.path / "filler").open("wb", buffering=0) as file:
            for size in (2**20, 4096):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size) == size:
                        pass

    def empty(self) -> None:
        """Give the room back."""
        (self.path / "filler").unlink()


@contextlib.contextmanager
def small_disk(path: Path, *, size_mib: int = 32, uid: int = 0, gid: int = 0, mode: int = 0o700) -> Iterator[SmallDisk]:
    """Make the folder and mount a disk there. Whoever uses it must have let go at the end of the block."""
    path.mkdir(exist_ok=True)
    options = f"size={size_mib}m,mode={mode:o},uid={uid},gid={gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "daas-test-disk", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", path], check=True)
