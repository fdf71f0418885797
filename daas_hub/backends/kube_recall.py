"""What the cluster remembers where the ledger is lost: pods and claims as the notes that the ledger is rebuilt from."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeMissing, path
from daas_hub.core.errors import BackendUnavailable, ConfigError
from daas_hub.core.models import Handle, Json, Life
from daas_hub.core.pods import SERVER, address, observe
from daas_hub.core.recall import Note, Seen, SeenLaunch, SeenVolume, read_note

from . import kube_pod
from .kube_answers import url_of
from .kube_claims import handle_of_disk
from .kube_pod import ACCOUNT, HUB, LAUNCH, NOTE, PREFIX, TOKEN, UID, VOLUME


async def recall(kube: Kube, namespace: str, hub_id: str) -> Seen:
    """Pods that run and claims, as they describe themselves. Raises KubeRefused, BackendUnavailable."""
    launches = [
        launch_of(pod)
        async for pod in kube.pages(path("pods", namespace), f"{HUB}={hub_id},{LAUNCH}")
        if observe(pod).life is not Life.ENDED
    ]
    disks = {disk["metadata"]["name"]: disk async for disk in kube.pages(path("persistentvolumes"), f"{HUB}={hub_id}")}
    claims = path("persistentvolumeclaims", namespace)
    # What is everybody's carries no account; it is found by its folder when it is needed next.
    labels = f"{HUB}={hub_id},{VOLUME},{ACCOUNT}"
    volumes = [volume_of(claim, disks) async for claim in kube.pages(claims, labels)]
    return Seen("kubernetes", tuple(launches), tuple(volumes))


def launch_of(pod: Json) -> SeenLaunch:
    """A pod of ours, as it describes itself."""
    meta, notes = pod["metadata"], pod["metadata"].get("annotations") or {}
    account = meta["labels"].get(ACCOUNT, "")
    started = began(pod)
    note, trouble = _read(notes, account, started)
    handle = kube_pod.handle_from(pod)
    if handle is None:
        handle, trouble = {}, trouble or f"it has no annotation {UID}"
    if note is not None and not trouble:
        context = (pod.get("spec") or {}).get("securityContext") or {}
        if note.account.uid != context.get("runAsUser"):
            trouble = f"it runs as uid {context.get('runAsUser')}, its note says {note.account.uid}"
        elif note.charge is None:
            trouble = "its note is not a server's"
        else:
            ip = address(pod)
            handle = {**handle, "memory_bytes": note.charge.memory_bytes, **({"url": url_of(ip, handle)} if ip else {})}
    return SeenLaunch(
        where=f"pod {meta['name']}",
        launch_id=meta["labels"][LAUNCH],
        account_id=account,
        server_name=notes.get(f"{PREFIX}/server", ""),
        handle=handle,
        started_at=started,
        note=note,
        trouble=trouble,
    )


def began(pod: Json) -> datetime:
    """When its server's container began; when it was made where that is not known."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        running = (container.get("state") or {}).get("running") or {}
        if container.get("name") == SERVER and running.get("startedAt"):
            return datetime.fromisoformat(running["startedAt"])
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])


def volume_of(claim: Json, disks: Mapping[str, Json]) -> SeenVolume:
    """A claim of ours, as it describes itself, with the disk that it is bound to."""
    meta = claim["metadata"]
    notes, labels = meta.get("annotations") or {}, meta["labels"]
    created = datetime.fromisoformat(meta["creationTimestamp"])
    note, trouble = _read(notes, labels.get(ACCOUNT, ""), created)
    disk = disks.get((claim.get("spec") or {}).get("volumeName") or "")
    if note is not None and not note.name:
        trouble = trouble or "its note is not a volume's"
    return SeenVolume(
        where=f"claim {meta['name']}",
        volume_id=labels[VOLUME],
        account_id=labels.get(ACCOUNT, ""),
        made={
            "claim": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            **(handle_of_disk(disk) if disk is not None else {}),
            # A folder of the site is bound once more whenever it is not.
            **({"static": True} if note is not None and note.place.get("kind", "claim") != "claim" else {}),
        },
        created_at=created,
        note=note,
        trouble=trouble,
    )


def _read(notes: Mapping[str, Any], account_id: str, at: datetime) -> tuple[Note | None, str]:
    try:
        note = read_note(notes.get(NOTE), at)
    except ValueError as error:
        return None, str(error)
    if note.account.id != account_id:
        return note, f"its label says account {account_id or 'nothing'}, its note {note.account.id}"
    return note, ""


async def token_of(kube: Kube, handle: Handle) -> str | None:
    """The API token that a running server was given, from its Secret; None where that is gone."""
    names = kube_pod.names_in(handle)
    try:
        secret = await kube.call("GET", path("secrets", names.namespace, names.secret))
        return base64.b64decode((secret.get("data") or {})[TOKEN], validate=True).decode()
    except (KubeMissing, KeyError, binascii.Error, UnicodeDecodeError):
        return None


# ---------------------------------------------------------------- whose servers these are


def ledger_name(hub_id: str) -> str:
    """The ConfigMap that says which ledger knows the servers of a namespace."""
    return f"ledger-of-{hub_id}"


async def claim(kube: Kube, namespace: str, hub_id: str, ledger_id: str, *, take: bool) -> None:
    """Write down, once, which ledger knows the servers here; ``take``: it is this one from now on.

    Raises ConfigError where it is another one, BackendUnavailable where the namespace is not there.
    """
    name = ledger_name(hub_id)
    body: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": {HUB: hub_id}},
        "data": {"ledger": ledger_id},
    }
    try:
        await kube.call("POST", path("configmaps", namespace), body=body)
        return
    except KubeMissing as error:
        raise BackendUnavailable(f"The namespace {namespace} does not exist.", reason="namespace") from error
    except KubeConflict:
        there = await kube.call("GET", path("configmaps", namespace, name))
    known = (there.get("data") or {}).get("ledger")
    if known == ledger_id:
        return
    if take:
        patch: Json = {"data": {"ledger": ledger_id}}
        await kube.call("PATCH", path("configmaps", namespace, name), body=patch, content_type=MERGE)
        return
    raise ConfigError(
        f"The servers in namespace {namespace} are known to another ledger than this one. Where that one is lost, "
        "`daas-hub adopt` rebuilds it from the cluster; where another hub uses the namespace, give this one another "
        f"DaasHub.hub_id or KubeBackend.namespace. Nothing is stopped meanwhile (ConfigMap {name})."
    )
