"""What a SLURM cluster has free, partition by partition, as placement compares it with other places. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from .capacity import Capacity, NodeRoom, Release, Room
from .slurm_cluster import Node, Partition
from .slurm_jobs import Job, Phase, waits_for_room

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
    jobs: Sequence[Job] = (),
    note: str = "",
) -> tuple[Capacity, ...]:
    """One for each partition that servers can be placed in, the default one first, then as the cluster lists them.

    Hidden ones, and those that need a reservation, are for profiles that name them. ``pending``: jobs that wait, by
    partition; ``starts_at``: when a server would start, as a test-only submission says; ``jobs``: all that run and
    wait, by whose time limits it is told when there will be room.
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
            nodes=tuple(_node(node, each) for node in each.nodes),
            releases=releases(each, jobs),
            pending=None if pending is None else pending.get(each.name, 0),
            idle_nodes=each.idle_nodes,
            starts_at=None if starts_at is None else starts_at.get(each.name),
            by_limit=True,
            closed=_CLOSED.get(each.state, f"the partition is {each.state}"),
            note=note,
        )
        for each in listed
    )


def _node(node: Node, partition: Partition) -> NodeRoom:
    """One that is down may come back: it has its size, and nothing free. No job gets more of it than the partition
    gives away on one node."""
    cores, memory = partition.max_cpus_per_node or node.cpus, partition.most_memory_bytes(node.cpus)
    memory = memory or node.memory_bytes
    free = Room(float(min(node.cpus_free, cores)), min(node.memory_free_bytes, memory), dict(node.gpus_free))
    total = Room(float(min(node.cpus, cores)), min(node.memory_bytes, memory), dict(node.gpus))
    return NodeRoom(node.name, free=free, total=total)


def releases(partition: Partition, jobs: Iterable[Job]) -> tuple[Release, ...]:
    """What jobs on its nodes give back when their time is over, the earliest first.

    Nothing before the last job that stands in line there is expected to start: it comes first. Where one does of which
    the scheduler has said nothing, nobody can tell, and there is none at all. Held jobs, and those that wait for a time
    or for another job, keep nobody from anything.
    """
    nodes = {node.name for node in partition.nodes if node.usable}
    earliest: datetime | None = None
    found = []
    for job in jobs:
        if waits_for_room(job) and partition.name in job.partition.split(","):
            if job.expected_at is None:
                return ()
            earliest = max(earliest or job.expected_at, job.expected_at)
        elif job.phase is Phase.RUNNING and job.host in nodes and job.started_at is not None and job.limit_s:
            gpus = dict(job.gpu_types) or ({"": job.gpus} if job.gpus else {})
            ends_at = job.started_at + timedelta(seconds=job.limit_s)
            found.append(Release(ends_at, job.host, Room(float(job.cpus), job.memory_bytes or 0, gpus)))
    late = [replace(each, at=max(each.at, earliest)) if earliest is not None else each for each in found]
    return tuple(sorted(late, key=lambda each: each.at))
