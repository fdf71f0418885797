"""Two real nodes: a home that is made on one is used on the other, by the same account's servers at the same time."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.kube_claims import claim_name
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Life, Mount
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.faults.test_kube_homes import TOKEN, service_pod
from tests.faults.test_nfs import NAS, OPTIONS, SERVER, as_kubelet
from tests.servers.kube_place import GID, UID, KubePlace, kube_place
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.kubernetes.node import NAME as FIRST
from tests.servers.kubernetes.second import NAME as SECOND
from tests.servers.kubernetes.second import TAINT, SecondNode

pytestmark = [pytest.mark.needs("kube_rig", "root"), pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def second(kube_rig: Cluster, tiny: Image) -> Iterator[SecondNode]:
    node = SecondNode(kube_rig)
    node.start(tiny)
    try:
        yield node
    finally:
        node.stop()


def on(node: str) -> dict[str, Any]:
    """What a profile says that wants that node."""
    return {
        "node_selector": {"kubernetes.io/hostname": node},
        "tolerations": [{"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}],
    }


async def node_of(place: KubePlace, pod: str) -> str:
    return await place.ask("get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")


async def inside(place: KubePlace, saved: Saved, script: str) -> str:
    return await place.ask("exec", saved.last["pod"], "-c", "notebook", "--", "sh", "-c", script)


@asynccontextmanager
async def with_service(rig: Cluster, image: str, folder: Path, token: Path) -> AsyncIterator[KubePlace]:
    """A backend whose homes a service makes that runs on the first node."""
    folder.mkdir(mode=0o755)
    token.write_text(TOKEN)
    with rig.namespace() as namespace:
        *others, pod = service_pod(namespace, image, folder)
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": FIRST}  # type: ignore[index]
        await asyncio.to_thread(rig.apply, *others, pod)
        await asyncio.to_thread(rig.kubectl, "-n", namespace, "wait", "--for=condition=Ready", "pod/homes")
        address = (await asyncio.to_thread(rig.get, "pod", "homes", namespace))["status"]["podIP"]
        traits = {
            "volume_roots": [{"hostPath": {"path": str(folder)}}],
            "volumes": {"home": {"kind": "hostPath", "path": f"{folder}/{{username}}"}},
            "home_creation": "service",
            "home_service_url": f"http://{address}:8083",
            "home_service_token_file": str(token),
        }
        async with kube_place(rig, image, **traits) as place:
            try:
                yield place
            finally:
                await asyncio.to_thread(rig.kubectl, "delete", "pv", "-l", "daas-hub/hub=contract", "--wait=false")


async def test_a_home_made_on_one_node_is_used_on_both(
    kube_rig: Cluster, tiny: Image, second: SecondNode, tmp_path: Path
) -> None:
    folder = kube_rig.addons.volumes_folder / new_id()
    async with with_service(kube_rig, tiny.name, folder, tmp_path / "token") as place:
        (home,) = place.backend.plan(place.account, (), ())
        volume_id, there, here = new_id(), Saved(), Saved()
        first = place.spec(new_id(), mounts=(home.mount(volume_id, known=False),), override=on(SECOND))
        await place.backend.prepare(first)
        facts = (folder / "zora").stat()
        assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o7777) == (UID, GID, 0o700)
        await place.backend.start(first, there)
        assert await node_of(place, there.last["pod"]) == SECOND
        await inside(place, there, "echo mine > /home/zora/result")
        assert (folder / "zora" / "result").stat().st_uid == UID

        # The access mode allows it: the same home on the other node, while the first server runs.
        beside = place.spec(
            new_id(), server_name="beside", mounts=(home.mount(volume_id, known=True),), override=on(FIRST)
        )
        await place.backend.prepare(beside)
        await place.backend.start(beside, here)
        assert await node_of(place, here.last["pod"]) == FIRST
        assert await inside(place, here, "cat /home/zora/result; echo ours > /home/zora/other") == "mine\n"
        assert await inside(place, there, "cat /home/zora/other") == "ours\n"
        for saved in (there, here):
            assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED
        assert (folder / "zora" / "result").read_text() == "mine\n"


async def test_a_home_of_one_node_is_refused_on_the_other_with_the_servers_name(
    kube_rig: Cluster, tiny: Image, second: SecondNode
) -> None:
    async with kube_place(kube_rig, tiny.name) as place:
        first, away = Saved(), Saved()
        spec = place.spec(new_id(), override=on(SECOND))
        await place.backend.prepare(spec)
        await place.backend.start(spec, first)
        assert await node_of(place, first.last["pod"]) == SECOND
        home = (Mount(place.home.volume_id, place.home.source, place.home.path, known=True),)
        other = place.spec(new_id(), server_name="away", mounts=home, override=on(FIRST))
        await place.backend.prepare(other)
        with pytest.raises(StartFailed) as raised:
            await place.backend.start(other, away)
        assert (raised.value.permanent, raised.value.reason) == (True, "volume"), raised.value.log_message
        assert "your default server uses it on a node where this one cannot run" in str(raised.value)
        for saved in (first, away):
            await place.backend.stop(saved.last, within_s=30)


# ---------------------------------------------------------------- what kubelet asks of a file server


INSTEAD = """#!/bin/sh
echo "$*" >> {log}
case $1 in */nobody-made-it)
    echo "mount.nfs: mounting $1 failed, reason given by server: No such file or directory" >&2
    exit 32
esac
exec mount --bind "{folder}${{1#*:}}" "$2"
"""
"""This kernel has no NFS: the folder is bound. What real servers say and do is in ``test_nfs.py``, by the same
command."""


@pytest.fixture
def bound(kube_rig: Cluster, second: SecondNode, tmp_path: Path) -> Iterator[Path]:
    """What ``mount -t nfs`` calls on the second node; the folder in which its exports lie. The log stands beside."""
    folder = kube_rig.addons.volumes_folder / new_id()
    (folder / "home").mkdir(parents=True)
    helper = second.place.data / "helpers" / "mount.nfs"
    helper.parent.mkdir(exist_ok=True)
    helper.write_text(INSTEAD.format(log=folder / "log", folder=folder))
    helper.chmod(0o755)
    sbin = str(Path("/sbin").resolve())
    overlay = ("-t", "overlay", "-o", f"lowerdir={helper.parent}:{sbin}", "overlay", sbin)
    subprocess.run([*second.space.enter(), "mount", *overlay], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*second.space.enter(), "umount", "--lazy", sbin], check=True)


async def test_kubelet_mounts_a_home_by_the_command_that_was_tried_on_a_real_server(
    kube_rig: Cluster, tiny: Image, second: SecondNode, bound: Path
) -> None:
    home = bound / "home" / "zora"
    home.mkdir(mode=0o700)
    os.chown(home, UID, GID)
    traits = {
        "volume_roots": [{"nfs": {"server": SERVER, "path": "/home"}}],
        "volumes": {"home": {**NAS, "path": "/home/{username}", "mount_options": OPTIONS[::-1]}},
    }
    async with kube_place(kube_rig, tiny.name, **traits) as place:
        try:
            (planned,) = place.backend.plan(place.account, (), ())
            volume_id, saved = new_id(), Saved()
            spec = place.spec(new_id(), mounts=(planned.mount(volume_id, known=False),), override=on(SECOND))
            await place.backend.prepare(spec)
            await place.backend.start(spec, saved)
            await inside(place, saved, "echo mine > /home/zora/result")
            assert ((home / "result").read_text(), (home / "result").stat().st_uid) == ("mine\n", UID)
            disk = await asyncio.to_thread(kube_rig.get, "persistentvolume", claim_name(volume_id))
            source, target, *rest = (bound / "log").read_text().split()
            # mount(8) has put the options last, and its own first.
            assert ["mount", "-t", "nfs", *rest, source, target] == [
                *("mount", "-t", "nfs", "-o", "rw," + as_kubelet(disk, target)[4]),
                *as_kubelet(disk, target)[5:],
            ]
            await place.backend.stop(saved.last, within_s=30)

            stranger = replace(place.account, name="nobody-made-it")
            (planned,) = place.backend.plan(stranger, (), ())
            spec = place.spec(new_id(), mounts=(planned.mount(new_id(), known=False),), override=on(SECOND))
            await place.backend.prepare(spec)
            with pytest.raises(StartFailed) as raised:
                await place.backend.start(spec, saved)
            assert (raised.value.permanent, raised.value.reason) == (True, "volume")
            assert f"The folder {SERVER}:/home/nobody-made-it does not exist" in raised.value.message
            await place.backend.stop(saved.last, within_s=30)
        finally:
            await asyncio.to_thread(kube_rig.kubectl, "delete", "pv", "-l", "daas-hub/hub=contract", "--wait=false")
