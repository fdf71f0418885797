"""What an API server that says no leaves undone is done later: leftovers removed, disks kept, ends noticed."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.backends.kube_pod import HUB, LAUNCH
from daas_hub.core.models import Json, LaunchState
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.faults import kube_aftermath
from tests.faults.aftermath import agreed, faulty_site, watched_kube_site
from tests.faults.kube_faults import GONE_WITHIN_S, active, api_server_down, compact, ended, pod_uids, start
from tests.flow.kube_site import KubeSite
from tests.servers.api_proxy import ApiProxy, Asked, Fault
from tests.servers.kube_place import RESTRICTED, kube_place
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.tiny_server import get
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(240)]


@pytest.fixture
async def proxy(kube_rig: Cluster, tmp_path: Path) -> AsyncIterator[ApiProxy]:
    made = await ApiProxy(kube_rig.keys, tmp_path).start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image, proxy: ApiProxy) -> AsyncIterator[KubeSite]:
    """Its reconciler has its eyes open, and its hub a proxy before the API server."""
    more = f"c.KubeBackend.kubeconfig = {str(proxy.kubeconfig)!r}\n"
    with kube_rig.namespace(**RESTRICTED) as namespace:
        try:
            async with faulty_site(
                "ada", "bob", site=watched_kube_site(kube_rig, namespace, tiny.name, more=more)
            ) as made:
                yield made
                proxy.set()
        finally:
            proxy.set()


async def kinds(site: KubeSite, launch_id: str) -> set[str]:
    """Of which kinds a launch has something there."""
    there = await asyncio.to_thread(kube_aftermath.objects, site)
    return {one["kind"] for one in there if one["metadata"]["labels"][LAUNCH] == launch_id}


async def test_what_an_ended_launch_left_is_removed_later(site: KubeSite, proxy: ApiProxy) -> None:
    await start(site, "ada", "bob")
    ada, bob = (await active(site))["ada"], (await pod_uids(site))["bob"]
    assert ada.handle is not None
    proxy.set(lambda asked: Fault(500) if asked.method == "DELETE" else None)
    with contextlib.suppress(OSError, http.client.HTTPException):
        # It does not answer that.
        await asyncio.to_thread(get, f"{ada.handle['url']}{ada.handle['service_prefix']}end")
    await ended(site, ada.id)
    assert await kinds(site, ada.id) == {"Pod", "Secret", "ConfigMap"}, "the fault made no difference"
    # And what nobody's launch has: of a hub that was killed before its pod was made, of a ledger that was restored.
    other = {HUB: site.hub_id, LAUNCH: new_id()}
    for kind, ending in (("Secret", "secret"), ("ConfigMap", "files")):
        meta = {"name": f"daas-planted-{ending}", "namespace": site.namespace, "labels": other}
        await asyncio.to_thread(site.cluster.apply, {"apiVersion": "v1", "kind": kind, "metadata": meta})
    proxy.set()
    for launch_id in (ada.id, other[LAUNCH]):

        async def gone(launch_id: str = launch_id) -> bool:
            return not await kinds(site, launch_id)

        await until(gone, within_s=GONE_WITHIN_S, every_s=0.3, what=f"nothing of launch {launch_id} is left")
    assert await pod_uids(site) == {"bob": bob}
    await agreed(site)


async def test_a_disk_that_was_not_kept_at_the_start_is_kept_later(site: KubeSite, proxy: ApiProxy) -> None:
    proxy.set(lambda asked: Fault(500) if asked.path.startswith("/api/v1/persistentvolumes/") else None)
    await start(site, "ada")
    account = (await active(site))["ada"].account_id
    assert "disk" not in recorded(site, account), "the fault made no difference"
    proxy.set()

    async def disk() -> str:
        return str(recorded(site, account).get("disk", ""))

    name = await until(disk, within_s=30, every_s=0.3, what="the disk is recorded")
    volume = await asyncio.to_thread(site.cluster.get, "pv", name)
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["metadata"]["annotations"]["daas-hub/claim"].startswith(f"{site.namespace}/")


def recorded(site: KubeSite, account_id: str) -> Json:
    """What the ledger has of her home's claim."""
    ledger = site.ledger()
    try:
        (home,) = ledger.volumes.list(account_id=account_id)
        return home.made or {}
    finally:
        ledger.close()


async def test_an_end_while_the_hub_hears_nothing_and_versions_are_forgotten(
    kube_rig: Cluster, site: KubeSite, proxy: ApiProxy
) -> None:
    """Deleted while the hub's watches are deaf; then etcd is compacted and the API server starts anew."""
    await start(site, "ada", "bob")
    rows, pods = await active(site), await pod_uids(site)
    assert rows["ada"].handle is not None
    proxy.set(lambda asked: Fault(silent=True) if asked.watch else Fault(500))
    words = ("-n", site.namespace, "delete", "pod", rows["ada"].handle["pod"], "--grace-period=1", "--wait=true")
    await asyncio.to_thread(site.cluster.kubectl, *words)
    await asyncio.to_thread(compact, kube_rig)
    async with api_server_down(kube_rig):
        pass
    assert (await active(site))["ada"].state is LaunchState.RUNNING, "it was told before it could be known"
    proxy.set()
    assert (await ended(site, rows["ada"].id)).reason in ("its pod is gone", "the pod was deleted")
    assert f"The watch of /api/v1/namespaces/{site.namespace}/pods is too old and lists anew" in site.hub.log_text()
    assert (await active(site)).keys() == {"bob"}
    assert await pod_uids(site) == {"bob": pods["bob"]}


async def test_a_start_that_is_told_409_adopts_what_is_there(kube_rig: Cluster, tiny: Image, proxy: ApiProxy) -> None:
    """Another process has made all of it, which this one's watch has not heard of."""
    async with kube_place(kube_rig, tiny.name) as place:
        other = type(place.backend)(**{**place.traits, "kubeconfig": str(proxy.kubeconfig)})
        place.backends.append(other)
        assert await other._pods.synced(20)
        proxy.set(lambda asked: Fault(silent=True) if asked.watch else None)
        spec, first, second = place.spec(new_id()), Saved(), Saved()
        await place.backend.prepare(spec)
        url = await place.backend.start(spec, first)
        try:
            assert first.last["pod"] not in other._pods.objects
            assert await other.start(spec, second) == url
            assert (second.last["pod"], second.last["pod_uid"]) == (first.last["pod"], first.last["pod_uid"])
            assert proxy.count(posted) == 3, "Secret, ConfigMap and pod were asked for, and were there"
            assert len(await place.objects("pods")) == 1
        finally:
            proxy.set()
        await place.backend.stop(first.last, within_s=20)


def posted(asked: Asked) -> bool:
    return asked.method == "POST" and asked.path.rpartition("/")[2] in {"pods", "secrets", "configmaps"}
