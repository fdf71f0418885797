"""Disks that the site has already: a folder of an NFS server or of the nodes, bound in advance to one claim.

The cluster makes and removes nothing of them. Both objects can be made anew whenever they are gone: the data is in the
folder. A folder that is missing is never made; the mount fails and the start is refused (``core/pods.py``).
"""

from __future__ import annotations

from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeMissing, KubeRefused, path
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Json, LaunchSpec, Mount
from daas_hub.core.pods import refused
from daas_hub.core.recall import volume_note
from daas_hub.core.volume_rules import Kind, VolumeRule

from .kube_pod import ACCOUNT, HUB, NOTE, PREFIX, UID, VOLUME
from .kube_settings import KubeSettings

PATH = f"{PREFIX}/path"


def labels_of(mount: Mount, spec: LaunchSpec) -> dict[str, str]:
    """Of a volume's claim and disk: what is everybody's carries no account."""
    account = {ACCOUNT: spec.account.id, UID: str(spec.account.uid)} if mount.own else {}
    return {HUB: spec.hub_id, VOLUME: mount.volume_id, **account}


def notes_of(mount: Mount, spec: LaunchSpec) -> dict[str, str]:
    """The same as words, for whoever has nothing but the disk."""
    user = {f"{PREFIX}/user": spec.user_name, NOTE: volume_note(mount, spec)} if mount.own else {}
    return {PATH: mount.path, f"{PREFIX}/rule": mount.rule, **user}


def disk_of(mount: Mount, spec: LaunchSpec, rule: VolumeRule, name: str, namespace: str) -> Json:
    """The PersistentVolume: kept, of no class, and for that claim alone."""
    folder: Json
    if mount.place["kind"] == Kind.NFS:
        folder = {"nfs": {"server": mount.place["server"], "path": mount.place["path"]}}
    else:
        # Without the type kubelet would make a missing folder, as root.
        folder = {"hostPath": {"path": mount.place["path"], "type": "Directory"}}
    options = {"mountOptions": list(rule.mount_options)} if rule.mount_options else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels_of(mount, spec), "annotations": notes_of(mount, spec)},
        "spec": {
            "capacity": {"storage": rule.size},
            "accessModes": list(rule.access_modes),
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "volumeMode": "Filesystem",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
            **options,
            **folder,
        },
    }


def claim_of(mount: Mount, spec: LaunchSpec, rule: VolumeRule, name: str, namespace: str) -> Json:
    """The claim that nothing but that disk can meet."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels_of(mount, spec),
            "annotations": notes_of(mount, spec),
        },
        "spec": {
            "accessModes": list(rule.access_modes),
            "resources": {"requests": {"storage": rule.size}},
            "storageClassName": "",
            "volumeName": name,
        },
    }


class StaticDisks:
    """Makes disk and claim of a folder, both named by the volume's id, or finds them as they must be."""

    def __init__(self, kube: Kube, settings: KubeSettings) -> None:
        self._kube, self._settings = kube, settings

    async def make(self, mount: Mount, spec: LaunchSpec, rule: VolumeRule, name: str) -> Json:
        """Both exist afterwards; what is known of them. Raises StartFailed(permanent=True)."""
        namespace = self._settings.namespace
        disk = disk_of(mount, spec, rule, name, namespace)
        there = await self._create(path("persistentvolumes"), path("persistentvolumes", name=name), disk, mount)
        source = {key: disk["spec"][key] for key in ("nfs", "hostPath") if key in disk["spec"]}
        self._same(there, disk, source, mount)
        claims = path("persistentvolumeclaims", namespace)
        claim = claim_of(mount, spec, rule, name, namespace)
        made = await self._create(claims, path("persistentvolumeclaims", namespace, name), claim, mount)
        bound = (there["spec"].get("claimRef") or {}).get("uid")
        if bound and bound != made["metadata"]["uid"]:
            # Somebody deleted the claim: its disk waits for it for ever, unless it is told of the new one.
            body: Json = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
            await self._kube.call("PATCH", path("persistentvolumes", name=name), body=body, content_type=MERGE)
        return {"claim": name, "namespace": namespace, "disk": name, "source": source, "static": True}

    async def _create(self, kind: str, one: str, body: Json, mount: Mount) -> Json:
        try:
            return await self._kube.call("GET", one)
        except KubeMissing:
            pass
        try:
            return await self._kube.call("POST", kind, body=body)
        except KubeConflict:
            # Two servers that start at once find one disk.
            return await self._kube.call("GET", one)
        except KubeRefused as error:
            told = refused(error.code, error.why)
            raise StartFailed(
                f"The folder for {mount.path} cannot be bound. {told.message}",
                permanent=True,
                reason=told.trouble.value,
                log_message=f"{body['kind']} {body['metadata']['name']} is refused: {error.why}",
            ) from error

    def _same(self, there: Json, disk: Json, source: Json, mount: Mount) -> None:
        """Raise StartFailed where a disk of that name is another folder: nobody gets somebody else's data."""
        labels = there["metadata"].get("labels") or {}
        for key, want in source.items():
            has = {name: value for name, value in (there["spec"].get(key) or {}).items() if name in want}
            if has != want or labels.get(VOLUME) != disk["metadata"]["labels"][VOLUME]:
                raise StartFailed(
                    f"The disk for {mount.path} is not the folder that it should be. Ask the administrator.",
                    permanent=True,
                    reason="volume_conflict",
                    log_message=f"PersistentVolume {disk['metadata']['name']} is {has} with labels {labels}; "
                    f"{key} {want} was planned for volume {mount.volume_id}.",
                )
