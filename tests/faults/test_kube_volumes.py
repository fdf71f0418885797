"""Volumes of a real cluster: folders of the site, claims that grow or may not, homes that one node holds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.backends.kube_claims import claim_name
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Json, LaunchSpec, Life, Mount
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.kube_place import EXTRA_GID, GID, UID, KubePlace, kube_place
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image

pytestmark = [pytest.mark.needs("kubernetes", "root"), pytest.mark.timeout(180)]


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
