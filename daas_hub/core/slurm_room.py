"""What a SLURM cluster has free, partition by partition, as placement compares it with other places. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from .models import Capacity, NodeRoom, Room
from .slurm_cluster import Node, Partition
from .slurm_jobs import Job, Phase

_CLOSED = {
    "UP": "",
    "DOWN": "the partition takes jobs, but starts none",
    "DRAIN": "the partition takes no new jobs",
    "INACTIVE": "the partition takes no new jobs, and starts none",
}


def waiting(jobs: Iterable[Job]) -> Counter[str]:
    """How many jobs wait in each partition; one that may start in several counts in each."""
    return Counter(name for job in jobs if job.phase is Phase.WAITING for name in job.partition.split(","))


def capacities(
    backend: str,
    partitions: Sequence[Partition],
    *,
    as_of: datetime,
    pending: Mapping[str, int] | None = None,
    starts_at: Mapping[str, datetime] | None = None,
    note: str = "",
) -> tuple[Capacity, ...]:
    """One for each partition that servers can be placed in, the default one first, then as the cluster lists them.

    Hidden ones, and those that need a reservation, are for profiles that name them. ``pending``: jobs that wait, by
    partition; ``starts_at``: when a server would start, as a test-only submission says.
    """
    listed = sorted((p for p in partitions if not p.hidden and not p.needs_reservation), key=lambda p: not p.default)
    return tuple(
        Capacity(
            backend=backend,
            partition=each.name,
            as_of=as_of,
            free_cores=float(each.cpus_free),
            free_memory_bytes=each.memory_free_bytes,
            free_gpus=sum(each.gpus_free.values()),
            free_gpus_by_type=dict(each.gpus_free),
            total=Room(float(each.cpus), each.memory_bytes, dict(each.gpus)),
            nodes=tuple(_node(node) for node in each.nodes),
            pending=None if pending is None else pending.get(each.name, 0),
            idle_nodes=each.idle_nodes,
            starts_at=None if starts_at is None else starts_at.get(each.name),
            closed=_CLOSED.get(each.state, f"the partition is {each.state}"),
            note=note,
        )
        for each in listed
    )


def _node(node: Node) -> NodeRoom:
    """One that is down may come back: it has its size, and nothing free."""
    return NodeRoom(
        node.name,
        free=Room(float(node.cpus_free), node.memory_free_bytes, dict(node.gpus_free)),
        total=Room(float(node.cpus), node.memory_bytes, dict(node.gpus)),
    )
