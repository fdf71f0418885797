"""Volumes of a real cluster: folders of the site, claims that grow or may not, homes that one node holds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.backends.kube import KubeBackend
from daas_hub.backends.kube_claims import claim_name
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Json, LaunchSpec, Life, Mount
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.kube_place import EXTRA_GID, GID, UID, KubePlace, kube_place
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "root"), pytest.mark.timeout(180)]


class StaticPlace:
    """A backend whose homes and groups' folders are folders of the node; each test has its own."""

    def __init__(self, kube: KubePlace, folder: Path) -> None:
        self.kube, self.folder = kube, folder

    @property
    def home(self) -> Path:
        return self.folder / "home" / "zora"

    def make(self, path: Path, uid: int, gid: int, mode: int) -> None:
        """What the site does."""
        path.mkdir(mode=0o700)
        os.chown(path, uid, gid)
        path.chmod(mode)

    def spec(self, *wanted: str, known: Json | None = None) -> LaunchSpec:
        """A launch with the volumes that a profile names; ``known``: ids of earlier ones by name."""
        planned = self.kube.backend.plan(self.kube.account, (), wanted)
        mounts = tuple(one.mount((known or {}).get(one.name, new_id()), known=bool(known)) for one in planned)
        return self.kube.spec(new_id(), mounts=mounts)

    async def inside(self, pod: str, *argv: str) -> str:
        return await self.kube.ask("exec", pod, "-c", "notebook", "--", *argv)


@pytest.fixture
async def static(kube_rig: Cluster, tiny: Image) -> AsyncIterator[StaticPlace]:
    folder = kube_rig.addons.volumes_folder / new_id()
    for part in (folder, folder / "home", folder / "groups"):
        part.mkdir(mode=0o755)
    traits = {
        "volume_roots": [{"hostPath": {"path": str(folder / part)}} for part in ("home", "groups")],
        "volumes": {
            "home": {"kind": "hostPath", "path": f"{folder}/home/{{username}}"},
            "groups": {"kind": "hostPath", "path": f"{folder}/groups/{{group}}", "mount_path": "/groups/{group}"},
        },
    }
    async with kube_place(kube_rig, tiny.name, **traits) as place:
        try:
            yield StaticPlace(place, folder)
        finally:
            await asyncio.to_thread(kube_rig.kubectl, "delete", "pv", "-l", "daas-hub/hub=contract", "--wait=false")


async def test_files_on_the_sites_disks_are_hers(static: StaticPlace) -> None:
    static.make(static.home, UID, GID, 0o700)
    static.make(static.folder / "groups" / "crew", 0, EXTRA_GID, 0o2770)
    spec, saved = static.spec("groups"), Saved()
    made = await static.kube.backend.prepare(spec)
    assert set(made) == {mount.volume_id for mount in spec.mounts}
    await static.kube.backend.start(spec, saved)
    pod = saved.last["pod"]
    await static.inside(pod, "sh", "-c", "echo mine > /home/zora/result; echo ours > /groups/crew/result")
    mine, ours = static.home / "result", static.folder / "groups" / "crew" / "result"
    assert (mine.read_text(), mine.stat().st_uid, mine.stat().st_gid) == ("mine\n", UID, GID)
    assert (ours.read_text(), ours.stat().st_uid, ours.stat().st_gid) == ("ours\n", UID, EXTRA_GID)
    assert (static.folder / "groups" / "crew").stat().st_uid == 0, "nobody gave the site's folder away"

    whole = json.loads(await static.kube.ask("get", "pod", pod, "-o", "json"))
    assert "fsGroup" not in whole["spec"]["securityContext"]
    for mount in spec.mounts:
        disk = await asyncio.to_thread(static.kube.kube.get, "persistentvolume", claim_name(mount.volume_id))
        assert disk["spec"]["claimRef"]["namespace"] == static.kube.namespace
        assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert disk["spec"]["hostPath"]["type"] == "Directory"
        assert disk["metadata"]["labels"]["daas-hub/volume"] == mount.volume_id
    labels = [
        (await asyncio.to_thread(static.kube.kube.get, "persistentvolume", claim_name(m.volume_id)))["metadata"][
            "labels"
        ]
        for m in spec.mounts
    ]
    assert ["daas-hub/account" in each for each in labels] == [True, False]
    assert (await static.kube.backend.stop(saved.last, within_s=30)).life is Life.ENDED


async def test_a_deleted_claim_of_a_folder_of_the_site_is_made_again(static: StaticPlace) -> None:
    static.make(static.home, UID, GID, 0o700)
    (static.home / "result").write_text("kept")
    first, saved = static.spec(), Saved()
    await static.kube.backend.prepare(first)
    await static.kube.backend.start(first, saved)
    await static.kube.backend.stop(saved.last, within_s=30)
    volume_id = first.mounts[0].volume_id
    await static.kube.ask("delete", "pvc", claim_name(volume_id), "--wait=true")

    again = static.spec(known={"home": volume_id})
    await static.kube.backend.prepare(again)
    await static.kube.backend.start(again, saved)
    assert await static.inside(saved.last["pod"], "cat", "/home/zora/result") == "kept"
    await static.kube.backend.stop(saved.last, within_s=30)


async def test_a_disk_that_is_another_folder_is_refused(static: StaticPlace) -> None:
    static.make(static.home, UID, GID, 0o700)
    spec = static.spec()
    await static.kube.backend.prepare(spec)
    mount = spec.mounts[0]
    other = Mount(mount.volume_id, mount.source, mount.path, place={**mount.place, "path": f"{static.folder}/home/eve"})
    with pytest.raises(StartFailed) as raised:
        await static.kube.backend.prepare(static.kube.spec(new_id(), mounts=(other,)))
    assert (raised.value.permanent, raised.value.reason) == (True, "volume_conflict")


# ---------------------------------------------------------------- a folder that is missing


async def test_a_missing_home_is_refused_named_and_not_made(static: StaticPlace) -> None:
    spec, saved = static.spec(), Saved()
    await static.kube.backend.prepare(spec)
    with pytest.raises(StartFailed) as raised:
        await static.kube.backend.start(spec, saved)
    assert (raised.value.permanent, raised.value.reason) == (True, "volume")
    assert f"The folder {static.home} does not exist" in raised.value.message
    assert not static.home.exists()
    await static.kube.backend.stop(saved.last, within_s=30)
    await static.kube.backend.cleanup(saved.last)
    assert not static.home.exists(), "somebody made it after the refusal"

    # Once the site has made it, the same volume is used.
    static.make(static.home, UID, GID, 0o700)
    again = static.spec(known={"home": spec.mounts[0].volume_id})
    await static.kube.backend.prepare(again)
    await static.kube.backend.start(again, saved)
    await static.kube.backend.stop(saved.last, within_s=30)


# ---------------------------------------------------------------- a home that one node holds


@pytest.fixture
async def place(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubePlace]:
    async with kube_place(kube_rig, tiny.name) as place:
        yield place


async def test_named_servers_share_a_home_on_its_node_and_are_refused_on_another(
    place: KubePlace, kube_rig: Cluster
) -> None:
    backend, first, saved = place.backend, place.spec(new_id()), Saved()
    await backend.prepare(first)
    await backend.start(first, saved)
    await place.ask("exec", saved.last["pod"], "-c", "notebook", "--", "sh", "-c", "echo shared > /home/zora/result")
    home = (Mount(place.home.volume_id, place.home.source, place.home.path, known=True),)

    beside, saved_beside = place.spec(new_id(), server_name="beside", mounts=home), Saved()
    await backend.prepare(beside)
    await backend.start(beside, saved_beside)
    seen = await place.ask("exec", saved_beside.last["pod"], "-c", "notebook", "--", "cat", "/home/zora/result")
    assert seen == "shared\n"

    node = f"simulated-{new_id()[:8]}"
    await asyncio.to_thread(kube_rig.add_simulated_node, node)
    try:
        there = {
            "node_selector": {"kubernetes.io/hostname": node},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        }
        away, saved_away = place.spec(new_id(), server_name="away", mounts=home, override=there), Saved()
        await backend.prepare(away)
        with pytest.raises(StartFailed) as raised:
            await backend.start(away, saved_away)
        assert (raised.value.permanent, raised.value.reason) == (True, "volume"), raised.value.log_message
        assert "your default server and your server beside use it on a node where this one cannot run" in str(
            raised.value
        )
    finally:
        await asyncio.to_thread(kube_rig.kubectl, "delete", "node", node)
    for each in (saved, saved_beside, saved_away):
        await backend.stop(each.last, within_s=30)


# ---------------------------------------------------------------- growing


@pytest.fixture
async def own_class(kube_rig: Cluster) -> AsyncIterator[str]:
    """A StorageClass of this test, whose disks cannot grow yet."""
    name = f"class-{new_id()[:12]}"
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "rancher.io/local-path",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": False,
    }
    await asyncio.to_thread(kube_rig.apply, body)
    yield name
    await asyncio.to_thread(kube_rig.kubectl, "delete", "storageclass", name)


async def test_a_claim_grows_where_its_class_allows_it(kube_rig: Cluster, tiny: Image, own_class: str) -> None:
    async with kube_place(kube_rig, tiny.name, storage_class=own_class) as place:
        first, saved = place.spec(new_id()), Saved()
        await place.backend.prepare(first)
        await place.backend.start(first, saved)
        await place.backend.stop(saved.last, within_s=30)
        volume_id = place.home.volume_id
        known = (Mount(volume_id, place.home.source, place.home.path, known=True),)
        name = claim_name(volume_id)

        async def told(backend: KubeBackend) -> Json:
            growing: Json = (await backend.prepare(place.spec(new_id(), mounts=known)))[volume_id]["growth"]
            return growing

        assert (await told(place.backend))["state"] == "done"
        place.traits["home_size"] = "2Gi"
        larger = place.another()
        refused = await told(larger)
        assert (refused["state"], refused["has"], refused["to"]) == ("refused", "1Gi", "2Gi")
        assert refused["why"] == f"disks of the class {own_class} cannot grow"
        assert await _asked_for(place, name) == "1Gi"

        patch = json.dumps({"allowVolumeExpansion": True})
        await asyncio.to_thread(kube_rig.kubectl, "patch", "storageclass", own_class, "--type=merge", "-p", patch)
        assert (await told(larger))["state"] in ("asked", "resizing")
        assert await _asked_for(place, name) == "2Gi"

        # No provisioner here can grow a disk; this is what one would say.
        waits = [{"type": "FileSystemResizePending", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        await _status(place, name, {"conditions": waits})
        assert (await told(larger))["state"] == "resizing"
        await _status(place, name, {"conditions": None, "capacity": {"storage": "2Gi"}})
        assert (await told(larger))["state"] == "done"

        # What the site says later never shrinks it.
        assert (await told(place.backend))["state"] == "done"
        assert await _asked_for(place, name) == "2Gi"


async def test_a_cluster_that_refuses_a_larger_claim_refuses_no_start(
    kube_rig: Cluster, tiny: Image, own_class: str
) -> None:
    patch = json.dumps({"allowVolumeExpansion": True})
    await asyncio.to_thread(kube_rig.kubectl, "patch", "storageclass", own_class, "--type=merge", "-p", patch)
    async with kube_place(kube_rig, tiny.name, storage_class=own_class) as place:
        first, saved = place.spec(new_id()), Saved()
        await place.backend.prepare(first)
        await place.backend.start(first, saved)
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "small", "namespace": place.namespace},
            "spec": {"hard": {"requests.storage": "1Gi"}},
        }
        await asyncio.to_thread(kube_rig.apply, quota)
        used = "{.status.used.requests\\.storage}"
        await until(
            lambda: place.ask("get", "resourcequota", "small", "-o", f"jsonpath={used}"), within_s=30, what="counted"
        )
        place.traits["home_size"] = "2Gi"
        known = (Mount(place.home.volume_id, place.home.source, place.home.path, known=True),)
        made = await place.another().prepare(place.spec(new_id(), mounts=known))
        growing = made[place.home.volume_id]["growth"]
        assert (growing["state"], growing["why"]) == ("refused", "the cluster refuses it")
        await place.backend.stop(saved.last, within_s=30)


async def _asked_for(place: KubePlace, name: str) -> str:
    where = "jsonpath={.spec.resources.requests.storage}"
    return await place.ask("get", "pvc", name, "-o", where)


async def _status(place: KubePlace, name: str, status: Json) -> None:
    """What the cluster's own controllers would write."""
    body = json.dumps({"status": status})
    await place.ask("patch", "pvc", name, "--subresource=status", "--type=merge", "-p", body)
