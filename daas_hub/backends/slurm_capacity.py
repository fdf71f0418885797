"""What the cluster has free, by partition, looked at no more often than it changes much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from daas_hub.clients.slurm import Slurm
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Capacity
from daas_hub.core.slurm_cluster import Partition

KEPT_FOR = timedelta(seconds=15)


class CapacityLook:
    """The last look, with its age. While the cluster does not answer it stays, and grows old."""

    def __init__(self, slurm: Slurm) -> None:
        self._slurm = slurm
        self._as_of: datetime | None = None
        self._partitions: Sequence[Partition] = ()
        self._why = ""
        self._one = asyncio.Lock()

    async def look(self, backend: str) -> Sequence[Capacity]:
        """A row for the whole cluster. Never raises."""
        async with self._one:
            now = datetime.now(UTC)
            if self._as_of is None or now - self._as_of > KEPT_FOR:
                try:
                    self._partitions = await self._slurm.partitions()
                    self._as_of, self._why = now, ""
                except BackendUnavailable as error:
                    self._why = error.message
        return [capacity(backend, self._partitions, self._as_of, self._why)]


def capacity(backend: str, partitions: Sequence[Partition], as_of: datetime | None, note: str) -> Capacity:
    """The whole cluster in one row. Partitions share nodes, so the largest one's figures stand for all."""
    if as_of is None or not partitions:
        return Capacity(backend, as_of, note=note)
    return Capacity(
        backend,
        as_of,
        free_cores=max(one.cpus_free for one in partitions),
        free_memory_bytes=max(one.memory_free_bytes for one in partitions),
        free_gpus=max(sum(one.gpus_free.values()) for one in partitions),
        note=note,
    )
