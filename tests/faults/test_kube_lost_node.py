"""A node that is lost or removed under a real hub: her pages say so within 30 s, and nothing ends without evidence."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import agreed
from tests.faults.kube_crowd import simulated_site
from tests.faults.kube_faults import GONE_WITHIN_S, active, ended, ready, start
from tests.flow.kube_site import KubeSite
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(360)]

TOLD_WITHIN_S = 30
"""From the moment at which the API server knows."""
Lost = tuple[KubeSite, str]


@pytest.fixture
async def lost(kube_rig: Cluster, tiny: Image) -> AsyncIterator[Lost]:
    """Ada's server on a node of its own, bob's on another; the first node's name."""
    async with simulated_site(kube_rig, tiny.name, "daas-test/none", "ada", "bob") as (site, node):
        status, answer = await site.hub.start_server("ada", options={"profile": "simulated"})
        assert status in (201, 202), answer
        await start(site, "bob")
        yield site, node


async def test_a_lost_node_is_told_and_so_is_its_return(kube_rig: Cluster, lost: Lost) -> None:
    site, node = lost
    before = await active(site)
    # Nobody speaks for the node any more; what the node controller would find out after 40 s, the API server knows now.
    await asyncio.to_thread(kube_rig.addons.simulation.stop, signal.SIGKILL)
    try:
        silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        patch = json.dumps({"status": {"conditions": [silent]}})
        await asyncio.to_thread(kube_rig.kubectl, "patch", "node", node, "--subresource=status", "-p", patch)
        await told(site, f"its node {node} does not answer")
        now = await active(site)
        assert {name: (row.id, row.state) for name, row in now.items()} == {
            name: (row.id, LaunchState.RUNNING) for name, row in before.items()
        }
        assert await ready(site, "ada"), "she may go on working: the node may be cut off from the API server alone"
        assert "cannot be told" not in await site.page("bob", "/hub/home")
    finally:
        kube_rig.addons.simulation.start()

    async def over() -> bool:
        return "cannot be told" not in await site.page("ada", "/hub/home")

    await until(over, within_s=90, every_s=0.5, what="nothing is in doubt any more")
    assert (await active(site))["ada"].id == before["ada"].id


async def test_a_removed_node_is_told_and_then_the_end(kube_rig: Cluster, lost: Lost) -> None:
    site, node = lost
    before = await active(site)
    await asyncio.to_thread(kube_rig.kubectl, "delete", "node", node)
    await told(site, f"its node {node} is gone from the cluster")
    # The cluster's own collector takes the pod away, and that is the evidence.
    row = await ended(site, before["ada"].id, within_s=GONE_WITHIN_S)
    assert row.reason in (f"its node {node} is gone from the cluster", "its node is gone from the cluster")
    await agreed(site, within_s=GONE_WITHIN_S)
    assert (await active(site)).keys() == {"bob"}


async def told(site: KubeSite, why: str) -> None:
    """Wait until her home page says it."""

    async def said() -> bool:
        return f"It cannot be told whether your server runs:\n            {why}." in await site.page("ada", "/hub/home")

    await until(said, within_s=TOLD_WITHIN_S, every_s=0.5, what=f"ada is told: {why}")
