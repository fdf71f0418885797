"""What others do to pods, claims and nodes: it is told with a reason, nothing is taken for ended without evidence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import faulty_site, watched_kube_site
from tests.faults.kube_faults import active, ended, ready, start
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.kubernetes.node import NAME

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(240)]

TOLD_WITHIN_S = 30
"""From the moment at which the API server knows."""
GRACE_S = 30
"""What a pod that the cluster takes away by itself has to end; the tiny server does not heed SIGTERM."""


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubeSite]:
    with kube_rig.namespace(**RESTRICTED) as namespace:
        async with faulty_site("ada", "bob", "carl", site=watched_kube_site(kube_rig, namespace, tiny.name)) as made:
            yield made


async def ask(site: KubeSite, *words: str, given: str | None = None) -> str:
    """kubectl in the site's namespace, as an administrator."""
    return await asyncio.to_thread(lambda: site.cluster.kubectl("-n", site.namespace, *words, given=given))


async def pod_of(site: KubeSite, name: str) -> str:
    """The name of her pod."""
    row = (await active(site))[name]
    assert row.handle is not None
    return str(row.handle["pod"])


async def test_a_finalizer_that_never_clears(site: KubeSite) -> None:
    await start(site, "ada")
    row, pod = (await active(site))["ada"], await pod_of(site, "ada")
    held = ("patch", "pod", pod, "--type=merge", "-p")
    await ask(site, *held, json.dumps({"metadata": {"finalizers": ["example.org/never"]}}))
    status, _ = await site.hub.api("DELETE", "users/ada/server")
    assert status in (202, 204)
    # The pod's object stays; that its container has ended is the evidence.
    assert (await ended(site, row.id, within_s=60)).reason == "stopped on request"
    assert pod in await ask(site, "get", "pods", "-o", "name")
    await start(site, "ada")
    assert await pod_of(site, "ada") != pod
    await ask(site, *held, json.dumps({"metadata": {"finalizers": None}}))


async def test_pods_are_deleted_and_evicted(site: KubeSite) -> None:
    await start(site, "ada", "bob", "carl")
    rows = await active(site)
    pods = {name: await pod_of(site, name) for name in rows}
    await ask(site, "delete", "pod", pods["ada"], "--grace-period=3", "--wait=false")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": {"gracePeriodSeconds": 3},
                "metadata": {"name": pods["bob"], "namespace": site.namespace}}  # fmt: skip
    where = f"/api/v1/namespaces/{site.namespace}/pods/{pods['bob']}/eviction"
    await ask(site, "create", "--raw", where, "-f", "-", given=json.dumps(eviction))
    assert "deleted" in (await ended(site, rows["ada"].id, within_s=TOLD_WITHIN_S)).reason
    told = "it was evicted: somebody empties its node"
    assert told in (await ended(site, rows["bob"].id, within_s=TOLD_WITHIN_S)).reason
    assert (await active(site))["carl"].state is LaunchState.RUNNING
    await ask(site, "taint", "node", NAME, "daas-test=closed:NoExecute")
    try:
        row = await ended(site, rows["carl"].id, within_s=GRACE_S + TOLD_WITHIN_S)
        assert "taint" in row.reason
    finally:
        await ask(site, "taint", "node", NAME, "daas-test:NoExecute-")


SMALL = {
    "display_name": "Little disk",
    "slug": "little",
    "resources": {"cpu_limit": 0.5, "mem_limit": "256M"},
    "kubespawner_override": {"extra_resource_limits": {"ephemeral-storage": "8Mi"}},
}


async def test_kubelet_evicts_one_that_fills_the_nodes_disk(kube_rig: Cluster, tiny: Image) -> None:
    more = f"c.DaasSpawner.profile_list.append({SMALL!r})\n"
    with kube_rig.namespace(**RESTRICTED) as namespace:
        made = watched_kube_site(kube_rig, namespace, tiny.name, more=more)
        async with faulty_site("ada", "bob", site=made) as site:
            await start(site, "bob")
            status, answer = await site.hub.start_server("ada", options={"profile": "little"})
            assert status in (201, 202), answer
            before = await active(site)
            await site.inside(await pod_of(site, "ada"), "sh", "-c", "head -c 30000000 /dev/zero > /tmp/big")
            # Kubelet looks every ten seconds, and lets nothing that it evicts go on for longer.
            row = await ended(site, before["ada"].id, within_s=GRACE_S + TOLD_WITHIN_S)
            assert row.reason.startswith("it wrote more to its own disk, which ends with it, than it may: "), row.reason
            assert "8Mi" in row.reason
            assert (await active(site)).keys() == {"bob"}


async def test_a_claim_is_deleted_under_a_running_server(site: KubeSite) -> None:
    await start(site, "ada")
    (claim,) = await site.objects("persistentvolumeclaims")
    await ask(site, "delete", "pvc", claim["metadata"]["name"], "--wait=false")
    status, answer = await site.hub.api("POST", "users/ada/servers/second")
    assert status >= 400
    assert "being deleted" in answer["message"], answer
    assert await ready(site, "ada"), "the server that has it goes on"
    # Kept with the disk; the administrator binds it again, here by taking the deletion's reason away.
    assert (await active(site))["ada"].state is LaunchState.RUNNING
