"""Claims of volumes: made once, named by their volume, labelled with their account; grown, and their disks retained."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from daas_hub.clients.home_maker import HomeMaker
from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeMissing, KubeRefused, path
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Json, LaunchSpec, Mount
from daas_hub.core.pods import refused
from daas_hub.core.volume_rules import HOME, VolumeRule
from daas_hub.core.volumes import grows, growth

from .kube_pod import ACCOUNT, HUB, PREFIX, UID, Claim
from .kube_settings import KubeSettings
from .kube_static import PATH, StaticDisks, labels_of, notes_of
from .local_homes import AnyLogger

EXPANDS = "allowVolumeExpansion"
STORAGE_GROUP = "storage.k8s.io/v1"

CLAIM = f"{PREFIX}/claim"
HANDLES = ("csi", "nfs", "hostPath", "local")
"""Kinds of disks that can be found again by what a PersistentVolume says of them."""
SHAPE = ("capacity", "accessModes", "storageClassName", "volumeMode", "mountOptions", "nodeAffinity")
"""What a PersistentVolume needs besides, to be written once more."""


def claim_name(volume_id: str) -> str:
    """The claim of a volume, in every cluster and after every rename."""
    return f"daas-{volume_id}"


def claims_of(mounts: Sequence[Mount]) -> tuple[Claim, ...]:
    """What a pod mounts."""
    return tuple(
        Claim(claim_name(mount.volume_id), mount.path, mount.read_only, dynamic=not is_static(mount))
        for mount in mounts
    )


def is_static(mount: Mount) -> bool:
    """Whether its folder exists without the cluster."""
    return bool(mount.place.get("kind", "claim") != "claim")


def claim_of(mount: Mount, spec: LaunchSpec, rule: VolumeRule, namespace: str) -> Json:
    """The claim of a new volume that the cluster makes."""
    body: Json = {
        "accessModes": list(rule.access_modes),
        "resources": {"requests": {"storage": rule.size}},
    }
    if rule.storage_class:
        body["storageClassName"] = rule.storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim_name(mount.volume_id),
            "namespace": namespace,
            "labels": labels_of(mount, spec),
            "annotations": notes_of(mount, spec),
        },
        "spec": body,
    }


class Claims:
    """Makes claims that are new, looks for those that are not, and keeps their disks."""

    def __init__(self, kube: Kube, settings: KubeSettings, rules: Mapping[str, VolumeRule], log: AnyLogger) -> None:
        self._kube, self._settings, self._rules, self._log = kube, settings, rules, log
        self._static = StaticDisks(kube, settings)
        self._maker = None
        if settings.home_creation == "service":
            self._maker = HomeMaker(settings.home_service_url, settings.home_service_token_file)

    async def make(self, spec: LaunchSpec) -> dict[str, Json]:
        """Every claim of the launch exists afterwards. What is known of each new or growing one, by volume id.

        A volume that the ledger has seen before is never made anew: an empty claim in the place of a home would look
        as if all had been lost. Raises StartFailed(permanent=True) where such a claim is gone.
        """
        made: dict[str, Json] = {}
        for mount in spec.mounts:
            rule = self._rules.get(mount.rule)
            if rule is None:
                raise StartFailed(
                    f"The volume {mount.rule!r} is not known here. Ask the administrator.",
                    permanent=True,
                    reason="volume",
                )
            if is_static(mount):
                if self._maker is not None and mount.rule == HOME and not mount.known:
                    # Once: a known home that is missing has been lost, and an empty one would hide that.
                    account = spec.account
                    await self._maker.make(posixpath.basename(mount.place["path"]), account.uid, account.gid)
                what = await self._static.make(mount, spec, rule, claim_name(mount.volume_id))
            elif mount.known:
                what = await self._grow(await self._expect(mount), rule)
            else:
                claim = claim_of(mount, spec, rule, self._settings.namespace)
                await self._expect_none(claim)
                what = await self._create(claim)
            if what:
                made[mount.volume_id] = what
        return made

    async def _grow(self, claim: Json, rule: VolumeRule) -> Json:
        """Ask a claim to grow where the site's size grew. How far it is, or nothing where nothing is to be said.

        Never stands in a start's way: a home that is smaller than it should be is a home.
        """
        spec = claim["spec"]
        requested = spec["resources"]["requests"]["storage"]
        if claim.get("status", {}).get("phase") != "Bound":
            return {}
        if not grows(requested, rule.size):
            return {"growth": growth(claim)}
        has = claim["status"].get("capacity", {}).get("storage", requested)
        refusal = {"state": "refused", "to": rule.size, "has": has}
        name = claim["metadata"]["name"]
        where = path("persistentvolumeclaims", self._settings.namespace, name)
        try:
            if why := await self._cannot_grow(spec.get("storageClassName") or ""):
                return {"growth": {**refusal, "why": why}}
            body: Json = {"spec": {"resources": {"requests": {"storage": rule.size}}}}
            return {"growth": growth(await self._kube.call("PATCH", where, body=body, content_type=MERGE))}
        except KubeRefused as error:
            self._log.warning("Claim %s does not grow from %s to %s: %s", name, requested, rule.size, error.why)
            return {"growth": {**refusal, "why": "the cluster refuses it"}}

    async def _cannot_grow(self, storage_class: str) -> str:
        """Why claims of that class stay as they are; empty where they can grow."""
        if not storage_class:
            return "its disk has no class"
        try:
            found = await self._kube.call("GET", path("storageclasses", name=storage_class, group=STORAGE_GROUP))
        except KubeMissing:
            return f"its class {storage_class} is gone"
        return "" if found.get(EXPANDS) else f"disks of the class {storage_class} cannot grow"

    async def _expect_none(self, new: Json) -> None:
        """Refuse a first claim where this hub made one for the same uid and path before, for another account.

        Ids of accounts are random: the ledger that made that one is lost, and this one does not know it.
        """
        meta = new["metadata"]
        query = {"labelSelector": f"{HUB}={meta['labels'][HUB]},{UID}={meta['labels'][UID]}"}
        for kind, namespace in (("persistentvolumeclaims", self._settings.namespace), ("persistentvolumes", "")):
            for there in (await self._kube.call("GET", path(kind, namespace), query=query)).get("items") or []:
                if self._rivals(there["metadata"], meta):
                    raise StartFailed(
                        f"A volume for {meta['annotations'][PATH]} exists that this hub has lost from its records. "
                        "Nothing new was put in its place; ask the administrator, who can take it back (daas-hub "
                        "adopt --volumes).",
                        permanent=True,
                        reason="volume_unrecorded",
                        log_message=f"{kind[:-1]} {there['metadata']['name']} is a volume of uid {meta['labels'][UID]} "
                        "that the ledger does not have: run `daas-hub adopt --volumes --dry-run`.",
                    )

    def _rivals(self, there: Json, new: Json) -> bool:
        notes, labels = there.get("annotations") or {}, there.get("labels") or {}
        namespace = notes.get(CLAIM, "").partition("/")[0] or there.get("namespace")
        return (
            namespace == self._settings.namespace
            and notes.get(PATH) == new["annotations"][PATH]
            and labels.get(ACCOUNT) != new["labels"][ACCOUNT]
        )

    async def _expect(self, mount: Mount) -> Json:
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
        if claim["metadata"].get("deletionTimestamp"):
            raise StartFailed(
                f"The volume for {mount.path} is being deleted from the cluster. Ask the administrator, who can bind "
                "its disk again.",
                permanent=True,
                reason="volume_gone",
                log_message=f"Claim {claim_name(mount.volume_id)} of volume {mount.volume_id} was deleted in use.",
            )
        if claim.get("status", {}).get("phase") == "Lost":
            raise StartFailed(
                f"The disk of the volume for {mount.path} is lost to the cluster. Ask the administrator.",
                permanent=True,
                reason="volume_lost",
            )
        return claim

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
                f"The volume cannot be made. {told.message}",
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

        Skips claims that are not bound yet, and those that are gone: the next start tells. The note on the disk is all
        that is left where the claim, the namespace and the ledger are lost.
        """
        known = {}
        for volume_id in volume_ids:
            where = path("persistentvolumeclaims", self._settings.namespace, claim_name(volume_id))
            try:
                claim = await self._kube.call("GET", where)
            except KubeMissing:
                continue
            disk = claim["spec"].get("volumeName")
            if not disk or claim.get("status", {}).get("phase") != "Bound":
                continue
            meta = claim["metadata"]
            note = {**(meta.get("annotations") or {}), CLAIM: f"{meta['namespace']}/{meta['name']}"}
            ours = {key: value for key, value in note.items() if key.startswith(f"{PREFIX}/")}
            patch: Json = {"metadata": {"labels": meta.get("labels") or {}, "annotations": ours}}
            if self._settings.reclaim == "Retain":
                patch["spec"] = {"persistentVolumeReclaimPolicy": "Retain"}
            done = await self._kube.call("PATCH", path("persistentvolumes", name=disk), body=patch, content_type=MERGE)
            known[volume_id] = {"claim": meta["name"], "namespace": meta["namespace"], **handle_of_disk(done)}
        return known


def handle_of_disk(disk: Json) -> Json:
    """What is recorded of a PersistentVolume: enough to write it once more where the cluster has lost it."""
    spec = disk["spec"]
    return {
        "disk": disk["metadata"]["name"],
        "source": {key: spec[key] for key in HANDLES if key in spec},
        "shape": {key: spec[key] for key in SHAPE if key in spec},
    }
