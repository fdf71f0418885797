"""Binds disks again that outlived their claims: many at once, each by itself, again from the start where it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from daas_hub.clients.kube import MERGE, Kube, KubeConflict, KubeMissing, KubeRefused, path
from daas_hub.core.adopt import Conflict
from daas_hub.core.disks import DiskReport, Rebind, Recorded, plan_disks
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.recall import OwnedVolume, owned_note
from daas_hub.core.volume_rules import HOME

from .kube_pod import ACCOUNT, HUB, NOTE, PREFIX, UID, VOLUME
from .kube_static import PATH

AT_ONCE = 32
"""Calls to the API server at a time; its own limit for one client is some hundred (priority and fairness)."""


async def rebind(kube: Kube, namespace: str, hub_id: str, owned: Sequence[OwnedVolume], *, dry_run: bool) -> DiskReport:
    """Look, decide, bind. What cannot be bound is a conflict. Raises KubeRefused, BackendUnavailable for the look."""
    labels = f"{HUB}={hub_id},{VOLUME}"
    try:
        await kube.call("GET", path("namespaces", name=namespace))
    except KubeMissing as error:
        raise BackendUnavailable(
            f"The namespace {namespace} does not exist: make it as it was (`helm upgrade`), then run this again.",
            reason="namespace",
        ) from error
    except KubeRefused:
        # Its own account may not look at namespaces; then it is in one that is there.
        pass
    disks = [disk async for disk in kube.pages(path("persistentvolumes"), HUB + "=" + hub_id)]
    claims = [claim async for claim in kube.pages(path("persistentvolumeclaims", namespace), labels)]
    recorded = [recorded_of(one, hub_id) for one in owned if not one.let_go and not one.made.get("static")]
    let_go = {one.volume_id for one in owned if one.let_go}
    disks = [disk for disk in disks if (disk["metadata"].get("labels") or {}).get(VOLUME) not in let_go]
    plan = plan_disks(disks, claims, recorded, hub_id=hub_id, namespace=namespace)
    if dry_run:
        return DiskReport(tuple(one.volume_id for one in plan.rebind), plan.bound, tuple(plan.conflicts))
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(item: Rebind) -> Conflict | None:
        async with slots:
            return await _bind(kube, namespace, item)

    failed = await asyncio.gather(*map(one, plan.rebind))
    done = tuple(item.volume_id for item, why in zip(plan.rebind, failed, strict=True) if why is None)
    return DiskReport(done, plan.bound, (*plan.conflicts, *(why for why in failed if why is not None)))


def recorded_of(one: OwnedVolume, hub_id: str) -> Recorded:
    """With what its disk said of itself, as far as the ledger knows it."""
    account = one.account
    labels = {HUB: hub_id, VOLUME: one.volume_id, ACCOUNT: account.id, UID: str(account.uid)}
    notes = {f"{PREFIX}/user": one.user_name, NOTE: owned_note(one)}
    if one.name == HOME:
        notes[PATH] = account.home
    return Recorded(one.volume_id, one.made, labels, notes)


async def _bind(kube: Kube, namespace: str, item: Rebind) -> Conflict | None:
    """The disk first, then its claim: a claim that asks for a disk which is not free yet would wait, not fail."""
    try:
        if item.create is not None:
            await kube.call("POST", path("persistentvolumes"), body=item.create)
        if item.patch is not None:
            where = path("persistentvolumes", name=item.disk)
            await kube.call("PATCH", where, body=item.patch, content_type=MERGE)
        if not item.claim_exists:
            await kube.call("POST", path("persistentvolumeclaims", namespace), body=item.claim)
    except KubeConflict as error:
        return Conflict(f"disk {item.disk}", f"somebody changed it meanwhile: run this once more ({error.why})")
    except (KubeRefused, BackendUnavailable) as error:
        return Conflict(f"disk {item.disk}", f"the cluster does not take it: {error}")
    return None
