"""Letting go of a volume in a cluster, for good: with an administrator's rights, which the hub does not have.

Only what the volume's row names is touched, and only where the cluster says the same of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from daas_hub.clients.kube import MERGE, Kube, KubeMissing, KubeRefused, path
from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.models import Json

from .kube_pod import VOLUME
from .kube_start import claims_in

GONE_WITHIN_S = 120.0
LOOK_EVERY_S = 0.5


class NotRemoved(DaasError):
    """Raised when a volume, or a part of it, is still there; the text says which, and why."""

    reason = "not_removed"


async def remove(kube: Kube, volume_id: str, made: Json, *, within_s: float = GONE_WITHIN_S) -> str:
    """Delete the claim and the disk of a volume; what was done, for the log. Idempotent.

    A dynamic disk goes with all files on it. Of a folder of the site only the objects of the cluster go. Raises
    NotRemoved or BackendUnavailable.
    """
    namespace, name = made["namespace"], made["claim"]
    try:
        claim = await _get(kube, path("persistentvolumeclaims", namespace, name))
        if claim is not None:
            _ours(claim, volume_id, f"The claim {namespace}/{name}")
            await _unused(kube, namespace, name)
        disk_name = str((claim or {}).get("spec", {}).get("volumeName") or made.get("disk") or "")
        disk = await _get(kube, path("persistentvolumes", name=disk_name)) if disk_name else None
        if disk is not None:
            _of_claim(disk, namespace, name)
            if not made.get("static"):
                # The provisioner removes the data once the claim is gone.
                body: Json = {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}
                await kube.call("PATCH", path("persistentvolumes", name=disk_name), body=body, content_type=MERGE)
        if claim is not None:
            await _delete(kube, path("persistentvolumeclaims", namespace, name), claim["metadata"]["uid"])
        if disk is not None and made.get("static"):
            await _delete(kube, path("persistentvolumes", name=disk_name), disk["metadata"]["uid"])
        await _gone(kube, path("persistentvolumeclaims", namespace, name), within_s)
        if disk is not None:
            await _gone(kube, path("persistentvolumes", name=disk_name), within_s)
    except KubeRefused as error:
        raise NotRemoved(f"The cluster refuses it: {error.why}") from error
    if made.get("static"):
        return "its claim and its disk's entry are gone; the folder itself is the site's and stays"
    return (
        "its claim and its disk are gone, with all files" if disk is not None else "its claim is gone; it had no disk"
    )


async def _get(kube: Kube, where: str) -> Json | None:
    try:
        return await kube.call("GET", where)
    except KubeMissing:
        return None


async def _delete(kube: Kube, where: str, uid: str) -> None:
    with contextlib.suppress(KubeMissing):
        await kube.call("DELETE", where, body={"preconditions": {"uid": uid}})


def _ours(found: Json, volume_id: str, what: str) -> None:
    label = (found["metadata"].get("labels") or {}).get(VOLUME)
    if label != volume_id:
        raise NotRemoved(f"{what} carries the label {VOLUME}={label}, not {volume_id}: it is another one.")


def _of_claim(disk: Json, namespace: str, name: str) -> None:
    claim: dict[str, Any] = disk["spec"].get("claimRef") or {}
    if (claim.get("namespace"), claim.get("name")) != (namespace, name):
        raise NotRemoved(
            f"The disk {disk['metadata']['name']} belongs to the claim {claim.get('namespace')}/{claim.get('name')}, "
            f"not to {namespace}/{name}."
        )


async def _unused(kube: Kube, namespace: str, name: str) -> None:
    pods = (await kube.call("GET", path("pods", namespace))).get("items") or []
    using = [pod["metadata"]["name"] for pod in pods if name in claims_in(pod)]
    if using:
        raise NotRemoved(f"The pod {using[0]} uses it. Stop that first.")


async def _gone(kube: Kube, where: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (left := await _get(kube, where)) is not None:
        said = (left.get("status") or {}).get("message")
        if (left.get("status") or {}).get("phase") == "Failed":
            raise NotRemoved(f"{left['metadata']['name']} cannot be removed: {said}")
        if time.monotonic() > deadline:
            raise BackendUnavailable(f"{left['metadata']['name']} is still there after {within_s:g} s. Run it again.")
        await asyncio.sleep(LOOK_EVERY_S)
