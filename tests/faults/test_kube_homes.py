"""Homes made by the service for them: a pod of its own namespace and account, which the hub can only ask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.clients import home_service, home_tasks
from daas_hub.core.errors import HomeRefused, StartFailed
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.kube_place import GID, UID, KubePlace, kube_place
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image

pytestmark = [pytest.mark.needs("kube_rig", "root"), pytest.mark.timeout(180)]
TOKEN = "a token of the tests"


def service_pod(namespace: str, image: str, folder: Path) -> list[dict[str, object]]:
    """The service as a site runs it: root with three capabilities, one folder, no rights in the cluster."""
    files = {Path(module.__file__ or "").name: Path(module.__file__ or "").read_text() for module in
             (home_service, home_tasks)}  # fmt: skip
    meta = {"name": "homes", "namespace": namespace}
    container = {
        "name": "homes",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "/srv/homes/home_service.py", "--root", "/homes", "--token-file",
                    "/run/homes/token", "--uids", f"{UID}-{UID}"],
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "FOWNER", "DAC_READ_SEARCH"]},
        },
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8083}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "files", "mountPath": "/srv/homes"},
            {"name": "token", "mountPath": "/run/homes"},
            {"name": "homes", "mountPath": "/homes"},
        ],
    }  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta, "automountServiceAccountToken": False},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": files},
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"token": TOKEN}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {
                "serviceAccountName": "homes",
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 0,
                "containers": [container],
                "volumes": [
                    {"name": "files", "configMap": {"name": "homes"}},
                    {"name": "token", "secret": {"secretName": "homes", "defaultMode": 0o400}},
                    {"name": "homes", "hostPath": {"path": str(folder), "type": "Directory"}},
                ],
            },
        },
    ]


class Homes:
    """A backend whose homes are made by that service."""

    def __init__(self, kube: KubePlace, folder: Path) -> None:
        self.kube, self.folder = kube, folder


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image, tmp_path: Path) -> AsyncIterator[Homes]:
    folder = kube_rig.addons.volumes_folder / new_id()
    folder.mkdir(mode=0o755)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with kube_rig.namespace() as namespace:
        await asyncio.to_thread(kube_rig.apply, *service_pod(namespace, tiny.name, folder))
        await asyncio.to_thread(
            kube_rig.kubectl, "-n", namespace, "wait", "--for=condition=Ready", "pod/homes", "--timeout=30s"
        )
        pod = await asyncio.to_thread(kube_rig.get, "pod", "homes", namespace)
        traits = {
            "volume_roots": [{"hostPath": {"path": str(folder)}}],
            "volumes": {"home": {"kind": "hostPath", "path": f"{folder}/{{username}}"}},
            "home_creation": "service",
            "home_service_url": f"http://{pod['status']['podIP']}:8083",
            "home_service_token_file": str(token),
        }
        async with kube_place(kube_rig, tiny.name, **traits) as place:
            try:
                yield Homes(place, folder)
            finally:
                await asyncio.to_thread(kube_rig.kubectl, "delete", "pv", "-l", "daas-hub/hub=contract", "--wait=false")


async def test_a_missing_home_is_made_once_and_never_again(site: Homes) -> None:
    (home,) = site.kube.backend.plan(site.kube.account, (), ())
    volume_id, saved = new_id(), Saved()
    first = site.kube.spec(new_id(), mounts=(home.mount(volume_id, known=False),))
    await site.kube.backend.prepare(first)
    facts = (site.folder / "zora").stat()
    assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (UID, GID, 0o700)
    await site.kube.backend.start(first, saved)
    await site.kube.ask("exec", saved.last["pod"], "-c", "notebook", "--", "sh", "-c", "echo mine > /home/zora/result")
    assert (site.folder / "zora" / "result").stat().st_uid == UID
    assert (await site.kube.backend.stop(saved.last, within_s=30)).life is Life.ENDED

    # The site's storage has lost it, or another one is mounted there: an empty home would hide that.
    (site.folder / "zora").rename(site.folder / "lost")
    again = site.kube.spec(new_id(), mounts=(home.mount(volume_id, known=True),))
    await site.kube.backend.prepare(again)
    with pytest.raises(StartFailed, match=f"The folder {site.folder}/zora does not exist"):
        await site.kube.backend.start(again, saved)
    assert not (site.folder / "zora").exists()
    await site.kube.backend.stop(saved.last, within_s=30)


async def test_another_ones_folder_is_refused_before_anything_is_bound(site: Homes) -> None:
    (site.folder / "zora").mkdir(mode=0o700)
    os.chown(site.folder / "zora", UID + 5, GID)
    (home,) = site.kube.backend.plan(site.kube.account, (), ())
    with pytest.raises(HomeRefused, match=f"belongs to uid {UID + 5}"):
        await site.kube.backend.prepare(site.kube.spec(new_id(), mounts=(home.mount(new_id(), known=False),)))
    assert await site.kube.objects("pvc") == []
    assert (site.folder / "zora").stat().st_uid == UID + 5
