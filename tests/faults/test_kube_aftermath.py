"""The check at the end of faults on a cluster can fail: each of its parts finds what is planted here."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from daas_hub.backends.kube_pod import HUB, LAUNCH
from tests.faults import kube_aftermath
from tests.faults.aftermath import agreed, differences, faulty_site, watched_kube_site
from tests.faults.kube_faults import start
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(180)]


async def test_what_is_left_lost_or_leaked_is_found(kube_rig: Cluster, tiny: Image) -> None:
    with kube_rig.namespace(**RESTRICTED) as namespace:
        async with faulty_site("ada", site=watched_kube_site(kube_rig, namespace, tiny.name)) as site:
            await start(site, "ada")
            await agreed(site)
            token = (site.hub.root / "launch_tokens").read_text().split()[1]
            meta = {"name": "planted", "namespace": namespace, "labels": {LAUNCH: "0" * 32}}
            planted: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
            for kind, key in (("ConfigMap", "data"), ("Secret", "stringData")):
                await asyncio.to_thread(kube_rig.apply, {**planted, "kind": kind, key: {"it": token}})
            assert await asyncio.to_thread(differences, site) == ["Secret planted is left", "ConfigMap planted is left"]
            found = await asyncio.to_thread(kube_aftermath.leaks, site)
            assert found == ["a launch's token of ada in the cluster's objects or logs"]
            await asyncio.to_thread(kube_rig.kubectl, "-n", namespace, "delete", "configmap,secret", "planted")
            await asyncio.to_thread(kube_rig.apply, *stray_claim(namespace, site.hub_id))
            (home,) = [one for one in await site.objects("pvc") if one["metadata"]["name"] != "stray"]
            disk = ("patch", "pv", home["spec"]["volumeName"], "-p")
            for policy, wrong in (
                ("Delete", [f"the disk of claim {home['metadata']['name']} is not retained and recorded"]),
                ("Retain", []),
            ):
                patch = json.dumps({"spec": {"persistentVolumeReclaimPolicy": policy}})
                await asyncio.to_thread(kube_rig.kubectl, *disk, patch)
                assert await asyncio.to_thread(differences, site) == ["claim stray is no volume of the ledger", *wrong]
            await asyncio.to_thread(kube_rig.kubectl, "-n", namespace, "delete", "pvc", "stray")
            ledger, (row,) = site.ledger(), site.launches()
            assert row.handle is not None
            try:
                ledger.save_handle(row.id, {**row.handle, "pod_uid": "another"}, now=row.created_at)
                told = await asyncio.to_thread(differences, site)
                ledger.save_handle(row.id, row.handle, now=row.created_at)
            finally:
                ledger.close()
            assert "ada's launch is running, but its pod another is not" in told
            assert f"pod {row.handle['pod']} is not the one of its launch" in told


def stray_claim(namespace: str, hub_id: str) -> list[dict[str, Any]]:
    """A claim of the hub that nobody knows."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    meta = {"name": "stray", "namespace": namespace, "labels": {HUB: hub_id}}
    return [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}]
