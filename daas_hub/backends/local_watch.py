"""The ends of processes, seen at once: one pidfd each, watched by the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

from daas_hub.clients import processes
from daas_hub.clients.processes import ProcessId

from .finished import finished

T = TypeVar("T")


async def in_thread(fn: Callable[..., T], *args: Any) -> T:
    """Run something that blocks in a thread. A cancellation waits until it is over: what was begun can be undone."""
    return await finished(asyncio.to_thread(fn, *args))


class Watch:
    """One process until its end. ``ended`` resolves to its exit status, or None where that cannot be known.

    The loop keeps it alive; a child is collected here, so none stays a zombie.
    """

    def __init__(self, process: ProcessId, pidfd: int) -> None:
        self.process = process
        self.ended: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_end)

    def _on_end(self) -> None:
        code = processes.collect(self._pidfd)
        self.close()
        if not self.ended.done():
            self.ended.set_result(code)

    def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._pidfd >= 0:
            self.ended.get_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


async def watch(process: ProcessId) -> Watch | None:
    """Watch a process that may not be our child (after a restart of the hub); None where it has ended."""
    opening = asyncio.ensure_future(asyncio.to_thread(processes.open_pidfd, process))
    try:
        fd = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unused)
        raise
    return None if fd is None else Watch(process, fd)


def _close_unused(opening: asyncio.Future[int | None]) -> None:
    if not opening.cancelled() and opening.exception() is None and (fd := opening.result()) is not None:
        os.close(fd)
