"""How long a job may be: what partition, QOS and association say together, in SLURM's order of precedence. Pure.

The partition's MaxTime always counts, but for a job whose QOS has the flag PartitionTimeLimit. Where limits are
enforced, one more bound counts, and only one: the first there is of the partition's QOS, the job's QOS (these two the
other way round where the job's has the flag OverPartQOS) and the association (SLURM's "Resource Limits").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .slurm_cluster import Partition
from .slurm_jobs import parse_duration

QOS_FIELDS = ("Name", "Flags", "MaxWall")
"""sacctmgr's names of what is asked about QOS."""


@dataclass(frozen=True)
class Qos:
    """A quality of service, as far as it bounds a walltime."""

    name: str
    max_time_s: int | None = None
    """None: it sets none."""
    over_partition: bool = False
    """Whether its limits stand before those of a partition's own QOS."""
    past_partition: bool = False
    """Whether its jobs may be longer than a partition's MaxTime."""


@dataclass(frozen=True)
class Bound:
    """The longest walltime that can be had, and who sets it."""

    longest_s: int | None
    """None: unlimited."""
    field: str = ""
    """``partition``, ``qos`` or ``slurm_account``: which choice makes it."""
    whose: str = ""

    def allows(self, wanted_s: float) -> bool:
        """Whether a job may ask for so many seconds."""
        return self.longest_s is None or wanted_s <= self.longest_s


UNBOUND = Bound(None)


def parse_qos(text: str) -> dict[str, Qos]:
    """Name → QOS of what ``sacctmgr --parsable2 show qos`` printed. Raises ValueError."""
    found = {}
    for line in text.splitlines():
        said = dict(zip(QOS_FIELDS, line.split("|"), strict=True))
        flags = {flag.lower() for flag in said["Flags"].split(",")}
        found[said["Name"]] = Qos(
            said["Name"], parse_duration(said["MaxWall"]), "overpartqos" in flags, "partitiontimelimit" in flags
        )
    return found


def bound(
    partition: Partition,
    known: Mapping[str, Qos] | None,
    qos: str = "",
    account: str = "",
    max_time_s: int | None = None,
    *,
    limits: bool,
) -> Bound:
    """The bound of a job in this partition, of this QOS and SLURM account.

    ``known``: all QOS by name, None where they are not known; ``qos``: empty where it is not known; ``limits``: whether
    they are enforced; ``max_time_s``: the association's. What is not known bounds nothing.
    """
    mine, own = (known or {}).get(qos), (known or {}).get(partition.own_qos)
    lifted = mine.past_partition if mine is not None else any(one.past_partition for one in (known or {}).values())
    bounds = []
    if partition.max_time_s is not None and not lifted:
        bounds.append(Bound(partition.max_time_s, "partition", f"partition {partition.name}"))
    if limits and mine is not None and (own is not None or not partition.own_qos):
        by_job = Bound(mine.max_time_s, "qos", f"QOS {mine.name}")
        of_own = own.max_time_s if own is not None else None
        by_own = Bound(of_own, "partition", f"QOS {partition.own_qos} of partition {partition.name}")
        order = [by_job, by_own] if mine.over_partition else [by_own, by_job]
        order.append(Bound(max_time_s, "slurm_account", f"your slurm_account {account}"))
        bounds += [one for one in order if one.longest_s is not None][:1]
    return min(bounds, key=lambda one: one.longest_s or 0, default=UNBOUND)
