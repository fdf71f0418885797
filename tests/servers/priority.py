"""What is made in the background takes only what the tests leave."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BELOW = 10


def below_the_tests() -> None:
    """Lower this process and all that it starts."""
    os.nice(BELOW)
    # Where the kernel shares the processor among sessions (sched(7), autogroup), niceness counts only within one, and
    # each hub of a test is a session of its own.
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(BELOW))
