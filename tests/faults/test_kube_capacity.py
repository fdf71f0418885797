"""What a real cluster has free, and that a server is sent elsewhere once it is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daas_hub.backends import kube_capacity
from daas_hub.backends.kube import KubeBackend
from daas_hub.core.capacity import Capacity
from daas_hub.core.models import LaunchRequest, Resources
from daas_hub.core.naming import new_id
from daas_hub.core.placement import decide
from daas_hub.core.places import Policy
from daas_hub.core.room import Fit, Need, judge, nodes_for
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "root"), pytest.mark.timeout(240)]

GPU = "example.test/gpu"
TOLERATIONS = [{"key": SIMULATED, "operator": "Exists", "effect": "NoSchedule"}]


@asynccontextmanager
async def one_node(kube_rig: Cluster, tiny: Image) -> AsyncIterator[tuple[KubePlace, str]]:
    """A backend whose servers go to one simulated node with two GPUs, which nobody else uses."""
    node = f"room-{new_id()[:8]}"
    await asyncio.to_thread(kube_rig.add_simulated_node, node, **{GPU: "2"})
    try:
        async with kube_place(kube_rig, tiny.name, gpu_resource=GPU, cluster_grows=False) as place:
            place.traits["config"].KubeSpawner.tolerations = TOLERATIONS
            place.traits["config"].KubeSpawner.node_selector = {"kubernetes.io/hostname": node}
            place.backend = place.another()
            yield place, node
    finally:
        await asyncio.to_thread(kube_rig.kubectl, "delete", "node", node)


async def look(backend: KubeBackend) -> Capacity:
    (seen,) = await backend.capacity()
    return seen


async def test_what_others_took_is_not_free_and_the_next_server_goes_elsewhere(
    kube_rig: Cluster, tiny: Image, kube_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_capacity, "LOOK_EVERY_S", 0.0)
    async with one_node(kube_rig, tiny) as (place, node):
        seen = await look(place.backend)
        (there,) = nodes_for(seen, Need())
        assert (there.name, there.free.gpus, seen.free_gpus, seen.idle_nodes) == (node, {"": 2}, 2, 1)
        assert there.free == there.total
        assert not seen.note
        # Somebody else's, in another namespace: no watch of this hub sees it.
        container = {"name": "c", "image": tiny.name, "resources": {"limits": {GPU: "2"}, "requests": {"cpu": "1"}}}
        spec = {
            "containers": [container],
            "tolerations": TOLERATIONS,
            "nodeSelector": {"kubernetes.io/hostname": node},
        }
        theirs = {"name": "theirs", "namespace": kube_namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": theirs, "spec": spec}
        await asyncio.to_thread(kube_rig.apply, pod)
        await asyncio.to_thread(kube_rig.pod_in_phase, "theirs", kube_namespace, "Running")
        seen = await look(place.backend)
        (there,) = nodes_for(seen, Need())
        assert (seen.free_gpus, seen.idle_nodes) == (0, 0)
        assert there.total.cores is not None
        assert there.free.cores == pytest.approx(there.total.cores - 1)
        assert where({"kubernetes": [seen], "slurm": [Capacity("slurm", datetime.now(UTC), 8.0, 2**40, 4)]}) == "slurm"
        assert verdict(seen, 1) is Fit.LATER
        # Two GPUs never hold three: told only where no larger node may come.
        assert verdict(seen, 3) is Fit.NEVER
        assert verdict(replace(seen, grows=True), 3) is Fit.LATER
        await asyncio.to_thread(kube_rig.kubectl, "cordon", node)

        async def open_again() -> bool:
            return (await look(place.backend)).grows

        await until(open_again, within_s=30, what="a cordoned node may come back")
        assert verdict(await look(place.backend), 3) is Fit.LATER
        await asyncio.to_thread(kube_rig.kubectl, "delete", "pod", "theirs", "-n", kube_namespace)


def where(looks: Mapping[str, list[Capacity]]) -> str:
    """Where a server with one GPU goes."""
    request = LaunchRequest("gpu", "GPU", {}, Resources(gpus=1), ())
    return str(decide(request, tuple(looks), looks, policy=Policy(), now=datetime.now(UTC)).first.place)


def verdict(seen: Capacity, gpus: int) -> Fit:
    return judge(seen, Need(gpus=gpus), now=datetime.now(UTC), stale_s=60).fit
