"""A SLURM cluster as values: partitions, nodes, associations, reservations, settings; what its programs print, read.

No user's text is in what is read here, but for the comment of a reservation, which comes last.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .slurm_jobs import parse_duration, parse_time

EVERYBODY = frozenset({"ALL"})
Gpus = Mapping[str, int]
"""Number by type; the type is empty where the cluster names none."""


@dataclass(frozen=True)
class Node:
    """A node as the scheduler sees it."""

    name: str
    host: str
    """Its host name; nearly always the same."""
    address: str
    """Where SLURM reaches it: a name or an address."""
    state: str
    """``idle``, ``mixed``, ``allocated`` and others, with what else holds behind ``+``: ``idle+drain``."""
    cpus: int
    cpus_free: int
    """0, as all that is free, of a node on which no job can start now."""
    memory_bytes: int
    memory_free_bytes: int
    gpus: Gpus
    gpus_free: Gpus

    @property
    def usable(self) -> bool:
        """Whether jobs start on it, once they fit."""
        return usable(self.state)


@dataclass(frozen=True)
class Partition:
    """A partition with its nodes. Sums are over nodes that are usable, for what is free, and over all else."""

    name: str
    default: bool
    state: str
    """``UP``, ``DOWN``, ``DRAIN`` or ``INACTIVE``: jobs start only in the first."""
    max_time_s: int | None
    """None: unlimited."""
    default_time_s: int | None
    """What a job gets that asks for no time; None: ``max_time_s``."""
    accounts: frozenset[str]
    """Who may use it; EVERYBODY: all."""
    denied_accounts: frozenset[str]
    groups: frozenset[str]
    qos: frozenset[str]
    denied_qos: frozenset[str]
    hidden: bool
    needs_reservation: bool
    nodes: tuple[Node, ...]
    max_cpus_per_node: int | None = None
    """None: all that a node has; so of the memory below."""
    max_memory_per_node_bytes: int | None = None
    max_memory_per_cpu_bytes: int | None = None
    own_qos: str = ""
    """The QOS whose limits count for all of its jobs; empty: none."""

    def most_memory_bytes(self, node_cpus: int) -> int | None:
        """What one job can have on a node of so many cores; None: all of it."""
        cpus = min(node_cpus, self.max_cpus_per_node or node_cpus)
        by_cpu = None if self.max_memory_per_cpu_bytes is None else self.max_memory_per_cpu_bytes * cpus
        bounds = [one for one in (self.max_memory_per_node_bytes, by_cpu) if one is not None]
        return min(bounds, default=None)

    @property
    def cpus(self) -> int:
        """All its cores."""
        return sum(node.cpus for node in self.nodes)

    @property
    def cpus_free(self) -> int:
        """Cores on which jobs could start now."""
        return sum(node.cpus_free for node in self.nodes)

    @property
    def memory_bytes(self) -> int:
        """All its memory."""
        return sum(node.memory_bytes for node in self.nodes)

    @property
    def memory_free_bytes(self) -> int:
        """Memory that no job holds, on nodes that are usable."""
        return sum(node.memory_free_bytes for node in self.nodes)

    @property
    def gpus(self) -> Gpus:
        """All its GPUs."""
        return _sum([node.gpus for node in self.nodes])

    @property
    def gpus_free(self) -> Gpus:
        """GPUs that no job holds, on nodes that are usable."""
        return _sum([node.gpus_free for node in self.nodes])

    @property
    def idle_nodes(self) -> int:
        """Nodes that are usable and have no job."""
        return sum(node.usable and node.cpus_free == node.cpus for node in self.nodes)

    def admits(self, account: str, groups: Sequence[str] = ()) -> bool:
        """Whether jobs of this SLURM account, of somebody in these groups, may be submitted to it, by its lists alone:
        from 23.02 on a list also means the accounts below those that it names, which this does not know."""
        by_account = account in self.accounts if self.accounts != EVERYBODY else account not in self.denied_accounts
        return by_account and (self.groups == EVERYBODY or not self.groups.isdisjoint(groups))

    def admits_qos(self, qos: str) -> bool:
        """Whether jobs of this QOS may be submitted to it."""
        return qos in self.qos if self.qos != EVERYBODY else qos not in self.denied_qos


@dataclass(frozen=True)
class Association:
    """One way in which a user may submit: an account, perhaps in one partition alone."""

    account: str
    partition: str
    """Empty: all."""
    qos: tuple[str, ...]
    default_qos: str
    default: bool
    """Whether it is of the user's default account."""
    max_time_s: int | None


@dataclass(frozen=True)
class Reservation:
    """Nodes that are kept for somebody for a time."""

    name: str
    starts_at: datetime | None
    ends_at: datetime | None
    active: bool
    nodes: str
    partition: str
    users: frozenset[str]
    accounts: frozenset[str]
    groups: frozenset[str]
    flags: frozenset[str]

    def admits(self, user: str, account: str, groups: Sequence[str] = ()) -> bool:
        """Whether this user may use it; a name with ``-`` before it in a list is one that may not."""
        whom = ((self.users, {user}), (self.accounts, {account}), (self.groups, set(groups)))
        if any(f"-{name}" in listed for listed, names in whom for name in names):
            return False
        allowed = [(listed, names) for listed, names in whom if any(not one.startswith("-") for one in listed)]
        return all(not listed.isdisjoint(names) for listed, names in allowed)


def _sum(numbers: Sequence[Gpus]) -> Gpus:
    total: Counter[str] = Counter()
    for some in numbers:
        total.update(some)
    return dict(total)


# ---------------------------------------------------------------- nodes

NODE_FIELDS = (
    "NodeList", "NodeHost", "NodeAddr", "PartitionName", "StateComplete", "CPUsState", "Memory", "AllocMem", "Gres",
    "GresUsed",
)  # fmt: skip
"""sinfo's names (``--Format``), one line for each node in each partition."""
_STARTS = frozenset({"idle", "mixed", "allocated"})
_STARTS_NOT = frozenset(
    {"drain", "fail", "not_responding", "maintenance", "reserved", "reboot_requested", "reboot_issued", "invalid_reg"}
    | {"powering_down", "power_down", "blocked", "undrain"}
)


def usable(state: str) -> bool:
    """Whether jobs start on a node in this state. One that sleeps to save power is woken, so it counts."""
    base, *flags = state.lower().split("+")
    return base in _STARTS and _STARTS_NOT.isdisjoint(flags)


def sinfo_format() -> str:
    """sinfo's ``--Format``."""
    return ",".join(f"{name}:0|" for name in NODE_FIELDS)


def parse_nodes(text: str) -> dict[str, tuple[Node, ...]]:
    """The nodes of each partition that sinfo printed in that format. Raises ValueError."""
    found: dict[str, list[Node]] = {}
    for line in text.splitlines():
        said = dict(zip((*NODE_FIELDS, ""), line.split("|"), strict=True))
        found.setdefault(said["PartitionName"], []).append(_node(said))
    return {name: tuple(nodes) for name, nodes in found.items()}


def _node(said: Mapping[str, str]) -> Node:
    starts = usable(said["StateComplete"])
    _, idle, _, total = (int(number) for number in said["CPUsState"].split("/"))
    memory, allocated = (int(said[name]) * 2**20 for name in ("Memory", "AllocMem"))
    gpus, used = parse_gres(said["Gres"]), parse_gres(said["GresUsed"])
    free = {kind: max(0, number - used.get(kind, 0)) for kind, number in gpus.items()}
    return Node(
        name=said["NodeList"],
        host=said["NodeHost"],
        address=said["NodeAddr"],
        state=said["StateComplete"],
        cpus=total,
        cpus_free=idle if starts else 0,
        memory_bytes=memory,
        memory_free_bytes=max(0, memory - allocated) if starts else 0,
        gpus=gpus,
        gpus_free=free if starts else dict.fromkeys(gpus, 0),
    )


_BESIDE = re.compile(r"\([^)]*\)")
"""Which sockets or indices: behind a number."""


def parse_gres(said: str) -> dict[str, int]:
    """GPUs by type of ``gpu:a100:2(S:0-1),gpu:h100:1(IDX:0),tmpdisk:100``; other devices are passed over."""
    found: Counter[str] = Counter()
    for part in _BESIDE.sub("", said).split(","):
        device, *kind = part.split(":")
        if device == "gpu" and kind:
            number = int(kind.pop())
            found[kind[0] if kind else ""] += number
    return dict(found)


# ---------------------------------------------------------------- partitions, reservations: scontrol --oneliner


def _pairs(line: str) -> dict[str, str]:
    """``Name=value`` by name. The first of a name counts: a comment, which may hold anything, comes last."""
    found: dict[str, str] = {}
    for word in line.split():
        name, equals, value = word.partition("=")
        if equals:
            found.setdefault(name, value)
    return found


def _names(said: str | None) -> frozenset[str]:
    return frozenset(name for name in (said or "").split(",") if name not in {"", "(null)", "N/A"})


def parse_partitions(text: str, nodes: Mapping[str, Sequence[Node]]) -> tuple[Partition, ...]:
    """What ``scontrol --oneliner show partition`` printed, with its nodes. Raises ValueError."""
    lines = [_pairs(line) for line in text.splitlines() if line.startswith("PartitionName=")]
    return tuple(_partition(said, tuple(nodes.get(said["PartitionName"], ()))) for said in lines)


def _partition(said: Mapping[str, str], nodes: tuple[Node, ...]) -> Partition:
    try:
        return Partition(
            name=said["PartitionName"],
            default=said["Default"] == "YES",
            state=said["State"],
            max_time_s=parse_duration(said["MaxTime"]),
            default_time_s=parse_duration(said["DefaultTime"]),
            accounts=_names(said.get("AllowAccounts", "ALL")) or EVERYBODY,
            denied_accounts=_names(said.get("DenyAccounts")),
            groups=_names(said["AllowGroups"]) or EVERYBODY,
            qos=_names(said.get("AllowQos", "ALL")) or EVERYBODY,
            denied_qos=_names(said.get("DenyQos")),
            hidden=said["Hidden"] == "YES",
            needs_reservation=said["ReqResv"] == "YES",
            nodes=nodes,
            max_cpus_per_node=_bound(said.get("MaxCPUsPerNode")),
            max_memory_per_node_bytes=_bound(said.get("MaxMemPerNode"), 2**20),
            max_memory_per_cpu_bytes=_bound(said.get("MaxMemPerCPU"), 2**20),
            own_qos=next(iter(_names(said.get("QoS"))), ""),
        )
    except KeyError as error:
        raise ValueError(f"A partition without {error}: {said}") from None


def _bound(said: str | None, unit: int = 1) -> int | None:
    return None if said in {None, "UNLIMITED", "(null)", "0"} else int(str(said)) * unit


def parse_reservations(text: str) -> tuple[Reservation, ...]:
    """What ``scontrol --oneliner show reservation`` printed. Raises ValueError."""
    lines = [_pairs(line) for line in text.splitlines() if line.startswith("ReservationName=")]
    return tuple(_reservation(said) for said in lines)


def _reservation(said: Mapping[str, str]) -> Reservation:
    try:
        return Reservation(
            name=said["ReservationName"],
            starts_at=parse_time(said["StartTime"]),
            ends_at=parse_time(said["EndTime"]),
            active=said["State"] == "ACTIVE",
            nodes="" if said["Nodes"] == "(null)" else said["Nodes"],
            partition="" if said["PartitionName"] == "(null)" else said["PartitionName"],
            users=_names(said["Users"]),
            accounts=_names(said["Accounts"]),
            groups=_names(said.get("Groups")),
            flags=_names(said.get("Flags")),
        )
    except KeyError as error:
        raise ValueError(f"A reservation without {error}: {said}") from None


# ---------------------------------------------------------------- associations, settings

ASSOCIATION_FIELDS = ("Cluster", "DefaultAccount", "AdminLevel", "Account", "Partition", "QOS", "DefaultQOS", "MaxWall")
"""sacctmgr's names of what is asked about a user."""


def parse_associations(text: str, cluster: str) -> tuple[Association, ...]:
    """What ``sacctmgr --parsable2 show user … withassoc`` printed, of this cluster. Raises ValueError."""
    rows = [dict(zip(ASSOCIATION_FIELDS, line.split("|"), strict=True)) for line in text.splitlines()]
    return tuple(
        Association(
            account=said["Account"],
            partition=said["Partition"],
            qos=tuple(name for name in said["QOS"].split(",") if name),
            default_qos=said["DefaultQOS"],
            default=said["Account"] == said["DefaultAccount"],
            max_time_s=parse_duration(said["MaxWall"]),
        )
        for said in rows
        # Somebody without any association still has a row, with an empty account.
        if said["Cluster"] == cluster and said["Account"]
    )


def parse_accounts(text: str) -> dict[str, frozenset[str]]:
    """SLURM account → all that are above it, of ``sacctmgr … show associations format=Account,ParentName``."""
    rows = (line.split("|") for line in text.splitlines())
    # A row without a parent is a person's, or the root's.
    parents = {account: parent for account, parent, *_ in rows if parent}
    found: dict[str, frozenset[str]] = {}
    for account in parents:
        above: list[str] = []
        while (parent := parents.get(above[-1] if above else account)) and parent not in above:
            above.append(parent)
        found[account] = frozenset(above)
    return found


def admin_level(text: str) -> str:
    """``None``, ``Operator`` or ``Administrator`` of what was printed so; empty for a user whom nobody knows."""
    lines = text.splitlines()
    return lines[0].split("|")[ASSOCIATION_FIELDS.index("AdminLevel")] if lines else ""


_SETTING = re.compile(r"(\w+)\s+= (.*)", re.ASCII)


def parse_settings(text: str) -> dict[str, str]:
    """What ``scontrol show config`` printed, by name. Raises ValueError where it names no cluster."""
    found = {match[1]: match[2].strip() for line in text.splitlines() if (match := _SETTING.fullmatch(line.rstrip()))}
    if "ClusterName" not in found:
        raise ValueError(f"These are no settings of a cluster: {text[:200]!r}")
    return found


def hides_jobs(settings: Mapping[str, str]) -> bool:
    """Whether the cluster shows people only their own jobs (PrivateData). Then who asks must be an operator: to all
    others, squeue says of a job that runs that there is none."""
    return "jobs" in settings.get("PrivateData", "").replace(",", " ").split()
