"""Claims of homes: made once, named by their volume, labelled with their account, and their disks retained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeMissing, KubeRefused, path
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Json, LaunchSpec, Mount
from daas_hub.core.pods import refused

from .kube_pod import ACCOUNT, HUB, PREFIX, VOLUME, Claim
from .kube_settings import KubeSettings


def claim_name(volume_id: str) -> str:
    """The claim of a volume, in every cluster and after every rename."""
    return f"daas-{volume_id}"


def claims_of(mounts: Sequence[Mount]) -> tuple[Claim, ...]:
    """What a pod mounts."""
    return tuple(Claim(claim_name(mount.volume_id), mount.path, mount.read_only) for mount in mounts)


def claim_of(mount: Mount, spec: LaunchSpec, settings: KubeSettings) -> Json:
    """The claim of a new volume."""
    body: Json = {
        "accessModes": list(settings.access_modes),
        "resources": {"requests": {"storage": settings.home_size}},
    }
    if settings.storage_class:
        body["storageClassName"] = settings.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(mount.volume_id),
            "namespace": settings.namespace,
            "labels": {HUB: spec.hub_id, ACCOUNT: spec.account.id, VOLUME: mount.volume_id},
            "annotations": {f"{PREFIX}/user": spec.user_name, f"{PREFIX}/path": mount.path},
        },
        "spec": body,
    }


class Claims:
    """Makes claims that are new, looks for those that are not, and keeps their disks."""

    def __init__(self, kube: Kube, settings: KubeSettings) -> None:
        self._kube, self._settings = kube, settings

    async def make(self, spec: LaunchSpec) -> dict[str, Json]:
        """Every claim of the launch exists afterwards. What is known of each new one, by volume id.

        A volume that the ledger has seen before is never made anew: an empty claim in the place of a home would look
        as if all had been lost. Raises StartFailed(permanent=True) where such a claim is gone.
        """
        made = {}
        for mount in spec.mounts:
            if mount.known:
                await self._expect(mount)
            else:
                made[mount.volume_id] = await self._create(claim_of(mount, spec, self._settings))
        return made

    async def _expect(self, mount: Mount) -> None:
        where = path("persistentvolumeclaims", self._settings.namespace, claim_name(mount.volume_id))
        try:
            claim = await self._kube.call("GET", where)
        except KubeMissing as error:
            raise StartFailed(
                f"The volume for {mount.path} is gone from the cluster. Nothing was put in its place; ask the "
                "administrator, who can bind its disk again.",
                permanent=True,
                reason="volume_gone",
                log_message=f"Claim {claim_name(mount.volume_id)} of volume {mount.volume_id} does not exist.",
            ) from error
        if claim.get("status", {}).get("phase") == "Lost":
            raise StartFailed(
                f"The disk of the volume for {mount.path} is lost to the cluster. Ask the administrator.",
                permanent=True,
                reason="volume_lost",
            )

    async def _create(self, claim: Json) -> Json:
        try:
            made = await self._kube.call("POST", path("persistentvolumeclaims", self._settings.namespace), body=claim)
        except KubeConflict:
            # Two servers of one account that start at once find one home.
            name = claim["metadata"]["name"]
            made = await self._kube.call("GET", path("persistentvolumeclaims", self._settings.namespace, name))
        except KubeRefused as error:
            told = refused(error.code, error.why)
            raise StartFailed(
                f"The volume for the home cannot be made. {told.message}",
                permanent=told.final,
                reason=told.trouble.value,
                log_message=error.why,
            ) from error
        return {
            "claim": made["metadata"]["name"],
            "namespace": self._settings.namespace,
            "uid": made["metadata"]["uid"],
        }

    async def retain(self, volume_ids: Sequence[str]) -> Mapping[str, Json]:
        """Switch the disks of bound claims to Retain and write on each what it is; what is known of them then.

        Skips claims that are not bound yet. The note on the disk is all that is left where the claim, the namespace
        and the ledger are lost.
        """
        known = {}
        for volume_id in volume_ids:
            claim = await self._kube.call(
                "GET", path("persistentvolumeclaims", self._settings.namespace, claim_name(volume_id))
            )
            disk = claim["spec"].get("volumeName")
            if not disk or claim.get("status", {}).get("phase") != "Bound":
                continue
            meta = claim["metadata"]
            note = {**(meta.get("annotations") or {}), f"{PREFIX}/claim": f"{meta['namespace']}/{meta['name']}"}
            ours = {key: value for key, value in note.items() if key.startswith(f"{PREFIX}/")}
            patch: Json = {"metadata": {"labels": meta.get("labels") or {}, "annotations": ours}}
            if self._settings.reclaim == "Retain":
                patch["spec"] = {"persistentVolumeReclaimPolicy": "Retain"}
            done = await self._kube.call("PATCH", path("persistentvolumes", name=disk), body=patch, content_type=MERGE)
            source = {k: v for k, v in done["spec"].items() if k in ("csi", "nfs", "hostPath", "local")}
            known[volume_id] = {"claim": meta["name"], "namespace": meta["namespace"], "disk": disk, "source": source}
        return known
