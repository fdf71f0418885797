"""A service ends when its hub is gone, however the hub went.

The kernel's own signal (PR_SET_PDEATHSIG) comes at once, but not for a hub that died before it was asked for, and not
on every system; so the parent is compared afterwards, and then every second. The pid that is compared is the hub's own
word (DAAS_HUB_PID): that it is 1 in a container is fine, and no other process can be our parent with that number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
LOOK_EVERY_S = 1.0
END_WITHIN_S = 8.0
"""How long a service may take to give its lease back before it is ended hard."""


def end_with_parent(hub_pid: int | None, on_gone: Callable[[], object]) -> None:
    """Call ``on_gone`` (from a thread) when the parent is gone; a process that goes on all the same is ended.

    ``hub_pid`` None: whoever is the parent now. Raises SystemExit where that hub is gone already.
    """
    expected = os.getppid() if hub_pid is None else hub_pid
    if sys.platform == "linux":
        # Without it the look below notices, a second later.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != expected:
        raise SystemExit("The hub that started this service is gone.")
    threading.Thread(target=_watch, args=(expected, on_gone), name="parent", daemon=True).start()


def _watch(expected: int, on_gone: Callable[[], object]) -> None:
    while os.getppid() == expected:
        time.sleep(LOOK_EVERY_S)
    # Where the loop is already closed the process ends anyway.
    with contextlib.suppress(RuntimeError):
        on_gone()
    time.sleep(END_WITHIN_S)
    os._exit(1)
