"""Calls that are never left in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def finished(call: Awaitable[T]) -> T:
    """What it returns or raises. A cancellation waits until it is over, at most its own time.

    Else what it makes (a pod, a job, a folder) might appear after whoever stops the start has looked for it.
    """
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
