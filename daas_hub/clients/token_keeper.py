"""Removes site tokens that are over while no hub is there to do it. Standard library only; one for each hub.

Run as ``python -I -S token_keeper.py <folder of all launches>``. It waits on standard input, which the hub holds open
and never writes to: its end is the hub's, however that came about. What is there then is removed when its time is over,
and with the last of it the keeper ends. The next hub has one of its own, and replaces what it renews.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

LOOK_EVERY_S = 5.0
"""At most: clocks are set, and machines sleep."""


def ends(folder: Path) -> float:
    """When a set is over, by its name, ``.site_tokens.<seconds since 1970>.<random>``; never: it holds no token."""
    word = folder.name.split(".")[2]
    return float(word) if word.isdecimal() else float("inf")


def main(root: Path) -> None:
    """See above."""
    os.setsid()
    while os.read(0, 4096):
        pass
    left = [folder for folder in root.glob("*/.site_tokens.*.*") if ends(folder) < float("inf")]
    while left := [folder for folder in left if folder.is_dir()]:
        now = time.time()
        for folder in left:
            if ends(folder) <= now:
                shutil.rmtree(folder, ignore_errors=True)
        time.sleep(min(LOOK_EVERY_S, max(0.1, min(map(ends, left)) - now)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
