"""The backend itself, with the hub's token and so with its rights: everything that it asks of the API is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.backends.kube import KubeBackend
from daas_hub.backends.kube_claims import claim_name
from daas_hub.core.capacity import Room
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Handle, Json, LaunchSpec, Life, Mount
from daas_hub.core.naming import new_id
from tests.waiting import until

from .api_server import Answer, ApiServer
from .chart import DEEP, NFS, RELEASE, RELEASE_NAMESPACE, USERS, VALUES, Helm
from .pods import RULES, launch_spec

pytestmark = [pytest.mark.needs("kube_api"), pytest.mark.timeout(120)]
MERGE = "application/merge-patch+json"


class Site:
    """A backend as the chart sets it up, and an administrator beside it who does what controllers would do."""

    def __init__(self, api: ApiServer, kubeconfig: Path) -> None:
        self.api, self.kubeconfig = api, kubeconfig
        self.config = Config()
        self.config.KubeSpawner.image = "example.org/lab:1"
        self.backends: list[KubeBackend] = []
        self.backend = self.with_settings()
        self.saved: list[Handle] = []

    def with_settings(self, **traits: Any) -> KubeBackend:
        """The backend with some settings of its own."""
        backend = KubeBackend(
            config=self.config,
            kubeconfig=str(self.kubeconfig),
            namespace=USERS,
            hub_id="hub",
            wait_policy_s=60,
            require_strict_groups=True,
            reserved_ids=[list(pair) for pair in RULES.reserved],
            denied_gids=list(RULES.denied_gids),
            volume_roots=VALUES["volumes"]["roots"],
            **traits,
        )
        self.backends.append(backend)
        return backend

    async def admin(self, method: str, path: str, body: Json | None = None, **more: Any) -> Answer:
        answer = await asyncio.to_thread(self.api.ask, method, path, body, **more)
        assert answer.code in (200, 201), answer.why
        return answer

    async def save(self, handle: Handle) -> None:
        self.saved.append(handle)

    async def bind(self, mount: Mount) -> None:
        """What a provisioner and the cluster's controllers do with a new claim."""
        name = claim_name(mount.volume_id)
        disk = {
            "metadata": {"name": f"pvc-{mount.volume_id}"},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": "csi.example.org", "volumeHandle": mount.volume_id},
                "claimRef": {"namespace": USERS, "name": name},
            },
        }
        await self.admin("POST", "/api/v1/persistentvolumes", disk)
        claim = f"/api/v1/namespaces/{USERS}/persistentvolumeclaims/{name}"
        body = {"spec": {"volumeName": disk["metadata"]["name"]}}
        await self.admin("PATCH", claim, body, content_type=MERGE)
        await self.admin("PATCH", f"{claim}/status", {"status": {"phase": "Bound"}}, content_type=MERGE)


@pytest.fixture
async def site(api: ApiServer, release: Helm, tmp_path: Path) -> AsyncIterator[Site]:
    path = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/serviceaccounts/{RELEASE}-hub/token"
    answer = api.ask("POST", path, {"spec": {"expirationSeconds": 3600}})
    assert answer.code == 201, answer.why
    config = json.loads(api.kubeconfig.read_text())
    config["users"] = [{"name": "rig", "user": {"token": answer.body["status"]["token"]}}]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    made = Site(api, kubeconfig)
    try:
        yield made
    finally:
        for backend in made.backends:
            await backend.close()


def spec() -> LaunchSpec:
    mount = Mount(new_id(), "/home/zora", "/home/zora")
    return replace(launch_spec(), launch_id=new_id(), mounts=(mount,))


async def test_a_whole_life_of_a_server(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    mine, backend = spec(), site.backend
    made = await backend.prepare(mine)
    assert set(made) == {mine.mounts[0].volume_id}
    starting = asyncio.create_task(backend.start(mine, site.save))
    try:
        await until(lambda: site.saved and site.saved[-1]["pod_uid"], within_s=30, what="the pod is made")
        assert [found.launch_id for found in await backend.find()] == [mine.launch_id]
        await site.bind(mine.mounts[0])
        kept = await backend.keep([mount.volume_id for mount in mine.mounts])
        assert kept[mine.mounts[0].volume_id]["disk"] == f"pvc-{mine.mounts[0].volume_id}"
        disk = await site.admin("GET", f"/api/v1/persistentvolumes/pvc-{mine.mounts[0].volume_id}")
        assert disk.body["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert (await backend.stop(site.saved[-1], within_s=30)).life is Life.ENDED
        with pytest.raises(StartFailed):
            await starting
    finally:
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError, StartFailed):
            await starting
    await backend.cleanup(site.saved[-1])
    for kind in ("pods", "secrets", "configmaps"):
        left = await site.admin(
            "GET", f"/api/v1/namespaces/{USERS}/{kind}?labelSelector=daas-hub/launch={mine.launch_id}"
        )
        assert left.body["items"] == []
    refused = [r.getMessage() for r in caplog.records if "forbidden" in r.getMessage() or "403" in r.getMessage()]
    assert refused == []


async def test_a_hook_that_makes_another_pod_is_refused_before_the_api_server_is_asked(site: Site) -> None:
    def hook(_: Any, pod: Any) -> Any:
        pod.spec.volumes.append({"name": "etc", "hostPath": {"path": "/etc"}})
        return pod

    site.config.KubeSpawner.modify_pod_hook = hook
    mine = spec()
    await site.backend.prepare(mine)
    with pytest.raises(StartFailed) as raised:
        await site.backend.start(mine, site.save)
    assert (raised.value.permanent, raised.value.reason) == (True, "policy")
    assert "volumes: volume etc is of type hostPath" in raised.value.log_message
    left = await site.admin("GET", f"/api/v1/namespaces/{USERS}/secrets?labelSelector=daas-hub/launch={mine.launch_id}")
    assert left.body["items"] == []


STATIC = {
    "home": {
        "kind": "nfs",
        "server": NFS[0],
        "path": f"{NFS[1]}/{{username}}",
        "mount_options": VALUES["volumes"]["mountOptions"],
    },
    "projects": {"kind": "hostPath", "path": f"{DEEP}/{{group}}", "mount_path": "/projects/{group}"},
}


async def test_folders_of_the_site_are_bound_and_bound_again(site: Site) -> None:
    backend = site.with_settings(volumes=STATIC)
    planned = backend.plan(launch_spec().account, (), ["projects"])
    assert [one.path for one in planned] == ["/home/zora", "/projects/crew"]
    mounts = tuple(one.mount(new_id(), known=False) for one in planned)
    mine = replace(spec(), mounts=mounts)
    made = await backend.prepare(mine)
    assert set(made) == {mount.volume_id for mount in mounts}
    assert await backend.prepare(mine) == made
    disk = f"/api/v1/persistentvolumes/{claim_name(mounts[0].volume_id)}"
    # As if its claim had been deleted and made anew.
    await site.admin("PATCH", disk, {"spec": {"claimRef": {"uid": "of-the-old-claim"}}}, content_type=MERGE)
    await backend.prepare(mine)
    claim = (await site.admin("GET", disk)).body["spec"]["claimRef"]
    assert "uid" not in claim
    assert claim["name"] == claim_name(mounts[0].volume_id)


async def test_a_folder_outside_of_the_charts_roots_is_refused_by_the_cluster_too(site: Site) -> None:
    """Whatever the backend's own settings say."""
    elsewhere = [{"hostPath": {"path": "/elsewhere"}}]
    backend = KubeBackend(
        config=site.config,
        kubeconfig=str(site.kubeconfig),
        namespace=USERS,
        hub_id="hub",
        volume_roots=elsewhere,
        volumes={"home": {"kind": "hostPath", "path": "/elsewhere/{username}"}},
    )
    site.backends.append(backend)
    planned = backend.plan(launch_spec().account, (), [])
    with pytest.raises(StartFailed) as raised:
        await backend.prepare(replace(spec(), mounts=tuple(one.mount(new_id(), known=False) for one in planned)))
    assert (raised.value.permanent, raised.value.reason) == (True, "policy")
    assert "root: the hub makes disks below the configured roots only, not :/elsewhere/zora" in raised.value.log_message


async def test_a_home_may_be_asked_to_grow(site: Site) -> None:
    growing = {
        "metadata": {"name": "growing"},
        "provisioner": "csi.example.org",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    await site.admin("POST", "/apis/storage.k8s.io/v1/storageclasses", growing)
    mine = spec()
    await site.with_settings(storage_class="growing").prepare(mine)
    await site.bind(mine.mounts[0])
    known = replace(mine, mounts=(replace(mine.mounts[0], known=True),))
    made = await site.with_settings(storage_class="growing", home_size="20Gi").prepare(known)
    assert made[mine.mounts[0].volume_id]["growth"]["to"] == "20Gi"
    assert made[mine.mounts[0].volume_id]["growth"]["state"] != "refused"


BINDING = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{RELEASE_NAMESPACE}-{RELEASE}-hub"


async def test_what_is_free_is_told_as_far_as_the_rights_go(site: Site) -> None:
    """The chart lets the hub read nodes, and pods of the users' namespace only; without nodes nothing is known."""
    node = f"room-{new_id()[:8]}"
    await site.admin("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    status = {
        "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    await site.admin("PATCH", f"/api/v1/nodes/{node}/status", {"status": status}, content_type=MERGE)
    # Made without a controller manager, which would take it away.
    await site.admin("PATCH", f"/api/v1/nodes/{node}", {"spec": {"taints": None}}, content_type=MERGE)
    (seen,) = await site.backend.capacity()
    (there,) = [each for each in seen.nodes if each.name == node]
    assert there.free == there.total == Room(8, 16 * 2**30, {"": 0})
    assert seen.note == "pods of other namespaces are not counted"
    assert seen.grows

    rights = (await site.admin("GET", BINDING)).body
    rights["metadata"] = {key: rights["metadata"][key] for key in ("name", "labels", "annotations")}
    await site.admin("DELETE", BINDING)
    try:

        async def blind() -> bool:
            other = site.with_settings()
            (unseen,) = await other.capacity()
            await other.close()
            return unseen.note == "its nodes cannot be read" and (unseen.nodes, unseen.free_cores) == ((), None)

        await until(blind, within_s=30, every_s=0.2, what="the right is gone")
    finally:
        await site.admin("POST", BINDING.rpartition("/")[0], rights)
        await site.admin("DELETE", f"/api/v1/nodes/{node}")
