"""The part of the aftermath that is about a cluster: what is there is what the ledger says, and no secret shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from daas_hub.backends.kube_claims import claim_name
from daas_hub.backends.kube_pod import HUB, LAUNCH
from daas_hub.core.models import LaunchState
from daas_hub.core.pods import SERVER
from daas_hub.db.ledger import LaunchRow
from daas_hub.db.volumes import VolumeState
from tests.faults.leaks import secrets_of
from tests.flow.kube_site import KubeSite
from tests.servers.kubernetes.addons import SIMULATED

OURS = "pods,secrets,configmaps"


def objects(site: KubeSite, kinds: str = OURS) -> list[dict[str, Any]]:
    """Everything of these kinds that a launch has there. Blocks."""
    words = ("-n", site.namespace, "get", kinds, "-l", LAUNCH, "-o", "json")
    items: list[dict[str, Any]] = json.loads(site.cluster.kubectl(*words))["items"]
    return items


def servers(site: KubeSite, person: str | None = None) -> list[str]:
    """The names of pods whose server runs, of one person or of all. Blocks."""
    return [
        pod["metadata"]["name"]
        for pod in objects(site, "pods")
        if _runs(pod) and (person is None or pod["metadata"]["annotations"]["daas-hub/user"] == person)
    ]


def _runs(pod: dict[str, Any]) -> bool:
    """Whether the server's container runs, and nobody is ending it."""
    states = {one["name"]: one["state"] for one in pod["status"].get("containerStatuses") or ()}
    return "running" in states.get(SERVER, {}) and "deletionTimestamp" not in pod["metadata"]


def differences(site: KubeSite, rows: Sequence[LaunchRow]) -> list[str]:
    """What the ledger's active rows and the cluster do not agree about. Blocks."""
    there = objects(site)
    active = {row.id: row for row in rows}
    pods = {one["metadata"]["uid"]: one for one in there if one["kind"] == "Pod"}
    recorded = {row.handle["pod_uid"] if row.handle is not None else None: row for row in rows}
    return [
        *(f"{row.user_name}'s launch is {row.state.value}" for row in rows if row.state is not LaunchState.RUNNING),
        *(f"{row.user_name}'s launch is running, but its pod {uid} is not"
          for uid, row in recorded.items() if uid not in pods or not _runs(pods[uid])),
        *(f"pod {one['metadata']['name']} is not the one of its launch" for uid, one in pods.items()
          if one["metadata"]["labels"][LAUNCH] in active and uid not in recorded),
        *(f"{one['kind']} {one['metadata']['name']} is left" for one in there
          if one["metadata"]["labels"][LAUNCH] not in active),
        *(f"there are two of {name} for one launch" for name in _doubled(there)),
        *_volumes(site),
    ]  # fmt: skip


def _volumes(site: KubeSite) -> list[str]:
    """What the ledger's volumes and the cluster's claims and disks do not agree about."""
    words = ("-n", site.namespace, "get", "pvc,pv", "-l", f"{HUB}={site.hub_id}", "-o", "json")
    there = {one["metadata"]["name"]: one for one in json.loads(site.cluster.kubectl(*words))["items"]}
    ledger = site.ledger()
    try:
        volumes = [one for one in ledger.volumes.list() if one.state is not VolumeState.EXPIRED]
    finally:
        ledger.close()
    ours = {claim_name(one.id) for one in volumes}
    found = [f"claim {name} is no volume of the ledger" for name, one in there.items()
             if one["kind"] == "PersistentVolumeClaim" and name not in ours]  # fmt: skip
    for volume in volumes:
        made = volume.made or {}
        claim = there.get(made.get("claim", ""))
        if "claim" in made and claim is None:
            found.append(f"claim {made['claim']} is gone")
        elif claim is not None and claim["spec"].get("volumeName"):
            disk = there.get(made.get("disk", ""), {"spec": {}})
            if disk["spec"].get("persistentVolumeReclaimPolicy") != "Retain":
                found.append(f"the disk of claim {made['claim']} is not retained and recorded")
    return found


def _doubled(there: Sequence[dict[str, Any]]) -> list[str]:
    seen = [f"{one['kind']} of {one['metadata']['labels'][LAUNCH]}" for one in there]
    return sorted({name for name in seen if seen.count(name) > 1})


def leaks(site: KubeSite) -> list[str]:
    """Secrets that stand in what others than the hub may read there: anything but Secrets. Blocks."""
    words = ("-n", site.namespace, "get", "pods,configmaps,events,persistentvolumeclaims", "-o", "json")
    text = site.cluster.kubectl(*words).encode()
    for pod in objects(site, "pods"):
        if _runs(pod) and not is_simulated(pod):
            text += _log(site, pod["metadata"]["name"]).encode()
    return [f"{secret.what} in the cluster's objects or logs" for secret in secrets_of(site) if secret.value in text]


def is_simulated(pod: dict[str, Any]) -> bool:
    """Whether it may be on a simulated node, where nothing runs and nothing is logged."""
    return any(one.get("key") == SIMULATED for one in pod["spec"].get("tolerations") or ())


def _log(site: KubeSite, pod: str) -> str:
    """What a server printed; waits for a kubelet that has just been started."""
    said: list[str] = []

    def read() -> bool:
        said.append(site.cluster.kubectl("-n", site.namespace, "logs", pod, "-c", SERVER))
        return True

    site.cluster.until(read, within_s=40, what=f"the log of {pod}")
    return said[-1]
