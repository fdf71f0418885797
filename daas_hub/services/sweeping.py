"""The reconciler's other clock: every two minutes the hub looks at everybody who has signed in, page by page."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import HubUnavailable


class Sweeping:
    """Sweeps by the side of the reconciler's passes: a directory that is silent keeps no pass waiting."""

    def __init__(self, hub: HubClient, every_s: float, may: Callable[[], bool], log: logging.Logger) -> None:
        self._hub, self._every_s, self._may, self._log = hub, every_s, may, log
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Sweep from now on; idempotent. Only while the lease is held something is asked."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def end(self) -> None:
        """Stop; what the hub has begun it finishes."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._sweep()
            except HubUnavailable as error:
                self._log.warning("This sweep was not finished: %s", error.log_message)
            except Exception:
                # Whoever left must be found all the same, the next time.
                self._log.exception("This sweep was not finished")
            # From begin to begin: what a sweep takes is no delay of the next one.
            await asyncio.sleep(max(1.0, began + self._every_s - time.monotonic()))

    async def _sweep(self) -> None:
        after: int | None = 0
        counts: dict[str, int] = {}
        while after is not None and self._may():
            after, counts = await self._hub.sweep(after)
        if any(counts.get(name) for name in ("ended", "unreachable", "unclear", "held")):
            self._log.info("Swept: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
