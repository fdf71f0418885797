"""What the cluster has free, by partition, looked at no more often than it changes much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from daas_hub.clients.slurm import Slurm
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Capacity
from daas_hub.core.slurm_cluster import Partition
from daas_hub.core.slurm_jobs import Job, Phase
from daas_hub.core.slurm_room import capacities

from .slurm_watch import JobWatch

KEPT_FOR = timedelta(seconds=15)


class CapacityLook:
    """The last look, with its age. While the cluster does not answer it stays, and grows old."""

    def __init__(self, slurm: Slurm, watch: JobWatch) -> None:
        self._slurm, self._watch = slurm, watch
        self._as_of: datetime | None = None
        self._partitions: Sequence[Partition] = ()
        self._pending: Mapping[str, int] = {}
        self._why = ""
        self._one = asyncio.Lock()

    async def look(self, backend: str) -> Sequence[Capacity]:
        """A row for each partition; one that says only why, where none was ever seen. Never raises."""
        async with self._one:
            now = datetime.now(UTC)
            if self._as_of is None or now - self._as_of > KEPT_FOR:
                try:
                    self._partitions, jobs = await asyncio.gather(
                        self._slurm.partitions(), self._watch.jobs(KEPT_FOR.total_seconds())
                    )
                    self._pending = waiting_in(jobs)
                    self._as_of, self._why = now, ""
                except BackendUnavailable as error:
                    self._why = error.message
        if self._as_of is None:
            return [Capacity(backend, None, note=self._why)]
        return capacities(backend, self._partitions, as_of=self._as_of, pending=self._pending, note=self._why)


def waiting_in(jobs: Mapping[int, Job]) -> Mapping[str, int]:
    """Jobs that wait, by partition; one that may start in several waits in each."""
    return Counter(
        name for job in jobs.values() if job.phase is Phase.WAITING for name in job.partition.split(",") if name
    )
