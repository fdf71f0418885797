"""A node that goes with the pods on it: told at once, and taken for an end only on evidence."""

from __future__ import annotations

import asyncio

import pytest

from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.kube_place import kube_place
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "root"), pytest.mark.timeout(240)]


async def test_a_node_is_gone(kube_rig: Cluster, tiny: Image) -> None:
    """A simulated node with a simulated pod: its Node object is deleted."""
    node = f"gone-{new_id()[:8]}"
    await asyncio.to_thread(kube_rig.add_simulated_node, node)
    override = {
        "node_selector": {"kubernetes.io/hostname": node},
        "tolerations": [{"key": SIMULATED, "operator": "Exists", "effect": "NoSchedule"}],
    }
    async with kube_place(kube_rig, tiny.name) as place:
        spec, saved = place.spec(new_id(), override=override, mounts=()), Saved()
        await place.backend.prepare(spec)
        await place.backend.start(spec, saved)
        waiting = asyncio.create_task(place.backend.wait_ended(saved.last))
        try:
            assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
            await asyncio.to_thread(kube_rig.kubectl, "delete", "node", node)

            async def told() -> str:
                seen = await place.backend.inspect(saved.last)
                assert seen.life is not Life.ENDED or waiting.done()
                return seen.reason if seen.life is Life.UNKNOWN else ""

            reason = await until(told, within_s=30, every_s=0.2, what="the node's loss is told")
            assert reason == f"its node {node} is gone from the cluster"
            # As the cluster does by itself a minute later.
            await place.ask("delete", "pod", saved.last["pod"], "--force", "--grace-period=0")
            seen = await asyncio.wait_for(waiting, 30)
            assert (seen.life, seen.reason) == (Life.ENDED, reason)
            # A look changes nothing: whoever asks next is told the same.
            assert await place.backend.inspect(saved.last) == seen
        finally:
            waiting.cancel()
