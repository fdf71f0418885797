"""What this machine has free, looked at no more often than it changes much."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from daas_hub.clients import machine
from daas_hub.core.capacity import Capacity, Room

KEPT_FOR = timedelta(seconds=5)


class CapacityLook:
    """The last look, with its age."""

    def __init__(self) -> None:
        self._as_of: datetime | None = None
        self._cores: float | None = None
        self._memory_bytes: int | None = None
        self._total = Room()

    async def look(self, backend: str, *, enforces_limits: bool, note: str) -> Capacity:
        """A young look; never raises: what cannot be told is None."""
        now = datetime.now(UTC)
        if self._as_of is None or now - self._as_of > KEPT_FOR:
            try:
                self._memory_bytes = await asyncio.to_thread(machine.available_memory_bytes)
                self._cores = await asyncio.to_thread(machine.idle_cores)
                self._total = await asyncio.to_thread(_in_all)
                self._as_of = now
            except (OSError, ValueError) as error:
                note = "; ".join(filter(None, (note, f"free capacity unknown: {error}")))
        return Capacity(
            backend=backend,
            as_of=self._as_of,
            free_cores=self._cores,
            free_memory_bytes=self._memory_bytes,
            # Nobody counts who uses which.
            free_gpus=None if any((self._total.gpus or {"": 1}).values()) else 0,
            total=self._total,
            enforces_limits=enforces_limits,
            holds_back=False,
            note=note,
        )


def _in_all() -> Room:
    return Room(machine.cores(), machine.memory_bytes(), {"": machine.gpus()})
