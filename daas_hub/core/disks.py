"""Which disks get their claim back, and how: PersistentVolumes that outlived claim, namespace or cluster. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .adopt import Conflict
from .models import Json

PREFIX = "daas-hub/"
HUB, VOLUME, CLAIM = f"{PREFIX}hub", f"{PREFIX}volume", f"{PREFIX}claim"
BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
FREE = frozenset({"Released", "Available"})


@dataclass(frozen=True)
class Recorded:
    """A volume that the ledger knows, with what was recorded of its disk."""

    volume_id: str
    made: Json
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Rebind:
    """One disk to bind again: the disk is written (``create``) or freed (``patch``), then its claim is made."""

    volume_id: str
    disk: str
    claim: Json
    patch: Json | None = None
    create: Json | None = None
    claim_exists: bool = False


@dataclass(frozen=True)
class DiskReport:
    """What was, or would be, bound again; ``bound``: disks that have their claims."""

    rebound: tuple[str, ...] = ()
    bound: int = 0
    conflicts: tuple[Conflict, ...] = ()


@dataclass
class DiskPlan:
    """What to do about all disks of a hub."""

    rebind: list[Rebind] = field(default_factory=list)
    bound: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


def plan_disks(
    disks: Sequence[Json],
    claims: Sequence[Json],
    recorded: Sequence[Recorded],
    *,
    hub_id: str,
    namespace: str,
) -> DiskPlan:
    """What to do so that every disk of this hub in this namespace has its claim again.

    A disk is the hub's by its labels, and the namespace's by the claim that it is noted for. Nothing new is ever made
    for a volume: where its disk is in doubt, nothing is bound.
    """
    plan = DiskPlan()
    there = {claim["metadata"]["name"]: claim for claim in claims}
    by_volume: dict[str, list[Json]] = {}
    for disk in disks:
        meta = disk["metadata"]
        labels = meta.get("labels") or {}
        if labels.get(HUB) == hub_id and VOLUME in labels and _claim_of(disk)[0] == namespace:
            by_volume.setdefault(labels[VOLUME], []).append(disk)
    for volume_id, same in sorted(by_volume.items()):
        _one(volume_id, same, there, plan)
    names = {disk["metadata"]["name"] for disk in disks}
    for volume in recorded:
        if volume.volume_id not in by_volume and volume.made.get("namespace") == namespace:
            _lost(volume, names, there, plan)
    return plan


def _claim_of(disk: Json) -> tuple[str, str]:
    """Namespace and name of the claim that a disk is kept for: as noted, else as it was bound last."""
    noted = (disk["metadata"].get("annotations") or {}).get(CLAIM, "")
    namespace, _, name = noted.partition("/")
    if namespace and name:
        return namespace, name
    last = disk["spec"].get("claimRef") or {}
    return str(last.get("namespace", "")), str(last.get("name", ""))


def _one(volume_id: str, same: list[Json], there: Mapping[str, Json], plan: DiskPlan) -> None:
    """The disks that say they are this volume: there should be one."""
    names = ", ".join(sorted(disk["metadata"]["name"] for disk in same))
    if len(same) > 1:
        plan.conflicts.append(Conflict(f"disks {names}", f"both say that they are volume {volume_id}"))
        return
    disk = same[0]
    name = disk["metadata"]["name"]
    _, claim_name = _claim_of(disk)
    claim = there.get(claim_name)
    bound_to = ((claim or {}).get("spec") or {}).get("volumeName")
    ref = disk["spec"].get("claimRef") or {}
    phase = (disk.get("status") or {}).get("phase")
    if claim is not None and bound_to != name:
        state = f"is bound to {bound_to}" if bound_to else "waits for a new, empty disk"
        plan.conflicts.append(
            Conflict(f"disk {name}", f"its claim {claim_name} {state}: delete that claim where nothing is in it")
        )
    elif claim is not None and ref.get("uid") == claim["metadata"]["uid"]:
        plan.bound += 1
    elif phase == "Bound" and claim is None:
        # The cluster has not seen yet that the claim is gone.
        plan.conflicts.append(Conflict(f"disk {name}", f"its claim {claim_name} is gone just now: run this once more"))
    elif phase not in FREE:
        plan.conflicts.append(Conflict(f"disk {name}", f"it is {phase}: look at its events"))
    elif disk["spec"].get("persistentVolumeReclaimPolicy") != "Retain":
        plan.conflicts.append(Conflict(f"disk {name}", "it is not retained: set its reclaim policy to Retain first"))
    else:
        plan.rebind.append(Rebind(volume_id, name, _claim(disk), patch=_free(disk), claim_exists=claim is not None))


def _claim(disk: Json) -> Json:
    """The claim that asks for exactly this disk."""
    meta, spec = disk["metadata"], disk["spec"]
    namespace, name = _claim_of(disk)
    body = {
        "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
        "resources": {"requests": {"storage": (spec.get("capacity") or {}).get("storage", "1Gi")}},
        # Empty, not left out: the default class would ask for a new disk.
        "storageClassName": spec.get("storageClassName") or "",
        "volumeMode": spec.get("volumeMode") or "Filesystem",
        "volumeName": meta["name"],
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": _ours(meta.get("labels")),
            "annotations": _ours(meta.get("annotations"), but={CLAIM}),
        },
        "spec": body,
    }


def _ours(of: Mapping[str, str] | None, but: Collection[str] = ()) -> dict[str, str]:
    return {key: value for key, value in (of or {}).items() if key.startswith(PREFIX) and key not in but}


def _free(disk: Json) -> Json:
    """The patch after which a disk waits for a claim of that name; only as long as nobody changed it meanwhile."""
    namespace, name = _claim_of(disk)
    ref = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name}
    patch: Json = {
        "metadata": {"resourceVersion": disk["metadata"].get("resourceVersion")},
        "spec": {"claimRef": {**ref, "uid": None, "resourceVersion": None}},
    }
    if BY_CONTROLLER in (disk["metadata"].get("annotations") or {}):
        patch["metadata"]["annotations"] = {BY_CONTROLLER: None}
    return patch


def _lost(volume: Recorded, names: Collection[str], there: Mapping[str, Json], plan: DiskPlan) -> None:
    """A volume of the ledger whose disk the cluster does not have: it is written once more, by its handle."""
    made = volume.made
    name, shape = made.get("disk"), made.get("shape") or {}
    claim_name = str(made.get("claim", ""))
    if not name or claim_name in there:
        # Never bound, or its claim has a disk without our labels: nothing to do here.
        return
    where = f"volume {volume.volume_id}"
    if name in names:
        plan.conflicts.append(Conflict(where, f"its disk {name} is there, but without our labels"))
    elif not made.get("source") or not shape:
        plan.conflicts.append(Conflict(where, f"its disk {name} is gone, and no handle of it was recorded"))
    else:
        noted = {**volume.annotations, CLAIM: f"{made['namespace']}/{claim_name}"}
        ref = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": made["namespace"], "name": claim_name}
        disk: Json = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "labels": dict(volume.labels), "annotations": noted},
            "spec": {**shape, **made["source"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": ref},
        }
        plan.rebind.append(Rebind(volume.volume_id, str(name), _claim(disk), create=disk))
