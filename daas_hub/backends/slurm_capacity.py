"""What the cluster has free, by partition, looked at no more often than it changes much."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from daas_hub.clients.slurm import Slurm
from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_choices import Told
from daas_hub.core.slurm_cluster import Partition
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_room import capacities, waiting

from .slurm_watch import JobWatch

KEPT_FOR = timedelta(seconds=15)


@dataclass(frozen=True)
class _Seen:
    partitions: Sequence[Partition]
    jobs: Mapping[int, Job]


class CapacityLook:
    """The last look, with its age. While the cluster does not answer it stays, and grows old."""

    def __init__(self, slurm: Slurm, watch: JobWatch) -> None:
        self._slurm, self._watch = slurm, watch
        self._look: SharedLook[_Seen] = SharedLook(self._ask)

    async def _ask(self) -> _Seen:
        return _Seen(*await asyncio.gather(self._slurm.partitions(), self._watch.jobs(KEPT_FOR.total_seconds())))

    async def _why(self) -> str:
        """Look again where the last look is too old; why that failed, empty where it did not. However many ask, and
        however long it lasts, one question is put in that time."""
        try:
            await self._look.get(KEPT_FOR.total_seconds())
        except BackendUnavailable as error:
            return error.message
        return ""

    async def partitions(self) -> Told[tuple[Partition, ...]] | None:
        """All partitions, hidden ones too; None where none was ever seen. Never raises."""
        why, last = await self._why(), self._look.last
        return None if last is None else Told(tuple(last.value.partitions), last.as_of, current=not why)

    async def look(self, backend: str) -> Sequence[Capacity]:
        """A row for each partition; one that says only why, where none was ever seen. Never raises."""
        why, last = await self._why(), self._look.last
        if last is None:
            return [Capacity(backend, None, note=why)]
        jobs = last.value.jobs.values()
        return capacities(
            backend, last.value.partitions, as_of=last.as_of, pending=waiting(jobs), jobs=tuple(jobs), note=why
        )

    async def close(self) -> None:
        """End what is being asked."""
        await self._look.close()
