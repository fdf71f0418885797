"""What nodes of a Kubernetes cluster have free: their allocatable amounts less what pods on them ask for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .capacity import NodeRoom, Room
from .models import Json
from .pod_asks import asked_of, number

_SHUTS = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True)
class NodeAmounts:
    """What is kept of a node."""

    ready: str | None
    """True, False or Unknown, as its condition says."""
    amounts: Mapping[str, float] = field(default_factory=dict)
    """Resource → allocatable: cores, bytes, or a number."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Keys of those that keep pods away."""
    cordoned: bool = False

    @property
    def open(self) -> bool:
        """Whether new pods can come to it at all; else it may be so again later."""
        return self.ready == "True" and not self.cordoned


def node_amounts(node: Json) -> NodeAmounts:
    """What is kept of a node's JSON."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    amounts = {name: number(str(given)) for name, given in (status.get("allocatable") or {}).items()}
    taints = [str(t.get("key")) for t in spec.get("taints") or () if t.get("effect") in _SHUTS]
    return NodeAmounts(
        ready=next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None),
        amounts={name: amount for name, amount in amounts.items() if amount is not None},
        labels=dict(node["metadata"].get("labels") or {}),
        taints=tuple(taints),
        cordoned=bool(spec.get("unschedulable")),
    )


@dataclass
class Used:
    """What pods ask for: by node, and how many have none yet."""

    by_node: dict[str, dict[str, float]] = field(default_factory=dict)
    pending: int = 0

    def add(self, pod: Json) -> None:
        """Count one pod. What has ended asks for nothing."""
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        node = (pod.get("spec") or {}).get("nodeName")
        if not node:
            self.pending += 1
            return
        sums = self.by_node.setdefault(node, {})
        for name, amount in {**asked_of(pod), "pods": 1.0}.items():
            sums[name] = sums.get(name, 0.0) + amount


def rooms(nodes: Mapping[str, NodeAmounts], used: Used | None, gpu_resource: str) -> tuple[NodeRoom, ...]:
    """The nodes that are open. ``used`` None: what is free is not known, only what there is."""
    return tuple(
        NodeRoom(
            name,
            free=_free(node, used.by_node.get(name, {}), gpu_resource) if used is not None else Room(),
            total=_room(node.amounts, gpu_resource),
            labels=node.labels,
            taints=node.taints,
        )
        for name, node in sorted(nodes.items())
        if node.open
    )


def _room(amounts: Mapping[str, float], gpu_resource: str) -> Room:
    memory = amounts.get("memory")
    return Room(
        cores=amounts.get("cpu"),
        memory_bytes=None if memory is None else int(memory),
        gpus={"": int(amounts.get(gpu_resource, 0))},
    )


def _free(node: NodeAmounts, used: Mapping[str, float], gpu_resource: str) -> Room:
    left = {name: max(0.0, round(amount - used.get(name, 0.0), 6)) for name, amount in node.amounts.items()}
    if left.get("pods", 1.0) < 1:
        # It holds as many pods as it may: no room, whatever else is free.
        left = dict.fromkeys(left, 0.0)
    return _room(left, gpu_resource)


def total_of(found: Sequence[NodeRoom]) -> tuple[float | None, int | None, int | None]:
    """Free cores, memory and GPUs of all of them together; None where one is not known."""
    cores = [each.free.cores for each in found]
    memory = [each.free.memory_bytes for each in found]
    gpus = [None if each.free.gpus is None else sum(each.free.gpus.values()) for each in found]
    return (
        sum(n for n in cores if n is not None) if None not in cores else None,
        sum(n for n in memory if n is not None) if None not in memory else None,
        sum(n for n in gpus if n is not None) if None not in gpus else None,
    )
