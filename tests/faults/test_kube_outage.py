"""The API server is away while people work: nobody's server is lost, and what was asked meanwhile is told or done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.faults.aftermath import faulty_site, watched_kube_site
from tests.faults.kube_faults import OUTAGE_S, active, api_server_down, ended, pod_uids, ready, start
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(180 + 2 * OUTAGE_S)]

PEOPLE = ("ada", "bob", "carl")


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubeSite]:
    with kube_rig.namespace(**RESTRICTED) as namespace:
        made = watched_kube_site(kube_rig, namespace, tiny.name)
        async with faulty_site(*PEOPLE, "dora", site=made):
            await start(made, *PEOPLE)
            yield made


async def test_no_server_is_lost(site: KubeSite) -> None:
    before, pods = await active(site), await pod_uids(site)
    assert set(before) == set(pods) == set(PEOPLE)
    async with api_server_down(site.cluster) as away_s:
        status, answer = await site.hub.api("POST", "users/dora/server")
        assert status == 503, answer
        assert "cluster cannot be asked" in answer["message"]
        # A stop that cannot be carried out: the answer comes in time, and the launch stays counted.
        status, _ = await site.hub.api("DELETE", "users/ada/server")
        assert status in (202, 204)
        await until(lambda: stopping(site, "ada"), within_s=60, every_s=0.2, what="ada's launch is being stopped")

        async def served_until(time_s: float) -> bool:
            return await steady(site, before, "bob", "carl") and away_s() >= time_s

        await until(lambda: served_until(OUTAGE_S / 2), within_s=OUTAGE_S, every_s=0.5)
        await site.hub.stop()
        await site.hub.start()
        await until(lambda: all_served(site, "bob", "carl"), within_s=20, every_s=0.2, what="the hub has them again")
        await until(lambda: served_until(OUTAGE_S), within_s=OUTAGE_S, every_s=0.5)
        assert await stopping(site, "ada")
    assert (await ended(site, before["ada"].id, within_s=90)).reason
    await steady(site, before, "bob", "carl")

    async def only_theirs() -> bool:
        return await pod_uids(site) == {name: pods[name] for name in ("bob", "carl")}

    await until(only_theirs, within_s=30, every_s=0.2, what="ada's pod is gone, the others' are what they were")
    told = [line for line in site.hub.log_text().splitlines() if "The watch of" in line and "begins again" in line]
    # Pods and events in the hub, pods in the reconciler, by two boots; again after ten tries in a long outage.
    assert 1 <= len(told) <= 12, told


async def steady(site: KubeSite, before: Mapping[str, LaunchRow], *people: str) -> bool:
    """Nothing has happened to these servers: the ledger counts them, the hub sends people there."""
    now = await active(site)
    for name in people:
        assert (now[name].id, now[name].state) == (before[name].id, LaunchState.RUNNING), "unknown was taken for ended"
        assert await ready(site, name)
    return True


async def stopping(site: KubeSite, name: str) -> bool:
    return (await active(site))[name].state is LaunchState.STOPPING


async def all_served(site: KubeSite, *people: str) -> bool:
    return all([await ready(site, name) for name in people])
