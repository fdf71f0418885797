"""The API server is away for minutes while people work: nobody's server is lost, what was asked meanwhile is done.

Three minutes in every run: longer than each time after which a part of the product could give up (a watch that is
believed 100 s, a start that is waited for 90 s, the hub's own limit of 120 s). All cases share one outage: on one site
the hub stays, with servers that run, one in its start, one in its stop; on the other, with fifty servers and one in
its start, the hub is restarted meanwhile. The versions that the watches know are compacted away as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from daas_hub.backends.kube import WATCH_FRESH_S
from daas_hub.core.models import LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import LaunchRow
from tests.faults.aftermath import agreed, faulty_site, watched_kube_site
from tests.faults.kube_crowd import CROWD, crowded_site, profiles, running, served, uids
from tests.faults.kube_faults import (
    GONE_WITHIN_S,
    active,
    api_server_down,
    compact,
    ended,
    pod_uids,
    ready,
    start,
)
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.kubernetes.node import NAME
from tests.waiting import LONG, until

OUTAGE_S = 900 if LONG else 180
"""How long the API server is away, in seconds."""
RESTART_AT_S = 45
"""When the hub is restarted in it: before the starts that wait are given up."""
HUB_GIVES_UP_S = 120
"""``wait_policy_s`` of the site, and 30 s more."""
assert max(WATCH_FRESH_S, HUB_GIVES_UP_S) + RESTART_AT_S < OUTAGE_S

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(480 + OUTAGE_S)]

PEOPLE = ("ada", "bob", "carl")
WAITS = f"daas-test/{new_id()[:8]}"
"""No node has this label before the outage is over."""

Away = Callable[[], float]


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubeSite]:
    """A site whose hub stays."""
    with kube_rig.namespace(**RESTRICTED) as namespace:
        made = watched_kube_site(kube_rig, namespace, tiny.name, more=profiles(WAITS))
        async with faulty_site(*PEOPLE, "dora", "emil", site=made):
            await start(made, *PEOPLE)
            yield made


@pytest.fixture
async def crowd(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubeSite]:
    """Another one, with fifty servers, whose hub is restarted."""
    async with crowded_site(kube_rig, tiny.name, WAITS) as made:
        yield made


async def test_no_server_is_lost(kube_rig: Cluster, site: KubeSite, crowd: KubeSite) -> None:
    before, pods = await active(site), await pod_uids(site)
    fifty, their_pods = await running(crowd), await uids(crowd)
    assert set(before) == set(pods) == set(PEOPLE)
    assert len(CROWD) == 50
    assert set(fifty) == set(their_pods) == set(CROWD)
    given_up, interrupted = await waiting_start(site, "emil"), await waiting_start(crowd, "boss")
    async with api_server_down(kube_rig) as away_s:
        await asyncio.to_thread(compact, kube_rig)
        async with asyncio.TaskGroup() as both:
            both.create_task(the_hub_stays(site, before, given_up, away_s))
            both.create_task(the_hub_is_restarted(crowd, fifty, away_s))
    await asyncio.to_thread(site.cluster.kubectl, "label", "node", NAME, f"{WAITS}=yes")
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(all_is_done(site, before, pods, given_up))
            both.create_task(all_are_there(crowd, fifty, their_pods, interrupted))
    finally:
        await asyncio.to_thread(site.cluster.kubectl, "label", "node", NAME, f"{WAITS}-")


async def waiting_start(site: KubeSite, name: str) -> str:
    """Begin a start that waits for a node; the launch's id once its pod exists."""
    status, answer = await site.hub.api("POST", f"users/{name}/server", {"profile": "waits"})
    assert status == 202, answer

    async def submitted() -> str | None:
        row = (await active(site)).get(name)
        return row.id if row is not None and row.handle is not None and row.handle.get("pod_uid") else None

    launch_id: str = await until(submitted, within_s=30, every_s=0.1, what=f"the pod of {name}")
    return launch_id


async def the_hub_stays(site: KubeSite, before: Mapping[str, LaunchRow], given_up: str, away_s: Away) -> None:
    status, answer = await site.hub.api("POST", "users/dora/server")
    assert status == 503, answer
    assert "cluster cannot be asked" in answer["message"]
    # A stop that cannot be carried out: the answer comes in time, and the launch stays counted.
    status, _ = await site.hub.api("DELETE", "users/ada/server")
    assert status in (202, 204)
    await until(lambda: is_stopping(site, "ada"), within_s=60, every_s=0.2, what="ada's launch is being stopped")

    async def over() -> bool:
        assert await steady(site, before, "bob", "carl")
        return away_s() >= OUTAGE_S

    await until(over, within_s=OUTAGE_S, every_s=1)
    assert await is_stopping(site, "ada")
    # Its wait is over; that its pod is gone cannot be known, so it is counted.
    now = (await active(site))["emil"]
    assert (now.id, now.state) == (given_up, LaunchState.STOPPING)


async def the_hub_is_restarted(site: KubeSite, before: Mapping[tuple[str, str], LaunchRow], away_s: Away) -> None:
    await until(lambda: away_s() >= RESTART_AT_S, within_s=RESTART_AT_S + 10, every_s=0.2)
    await site.hub.stop()
    await site.hub.start()

    async def all_served() -> bool:
        return not await served(site, CROWD)

    await until(all_served, within_s=60, every_s=0.5, what="the hub has all fifty again")

    async def over() -> bool:
        missing = await served(site, CROWD)
        assert not missing, f"the hub has forgotten {missing}"
        assert ids(await running(site)) == ids(before), "unknown was taken for ended"
        return away_s() >= OUTAGE_S

    await until(over, within_s=OUTAGE_S, every_s=2)


async def all_is_done(site: KubeSite, before: Mapping[str, LaunchRow], pods: Mapping[str, str], given_up: str) -> None:
    assert (await ended(site, before["ada"].id, within_s=GONE_WITHIN_S)).reason
    assert (await ended(site, given_up, within_s=GONE_WITHIN_S)).reason
    await agreed(site, within_s=GONE_WITHIN_S)
    await steady(site, before, "bob", "carl")
    assert await pod_uids(site) == {name: pods[name] for name in ("bob", "carl")}
    lines = site.hub.log_text().splitlines()
    told = [line for line in lines if "The watch of" in line and "begins again" in line]
    # Pods, events and nodes in the hub, pods and nodes in the reconciler; again after ten tries in a long outage.
    assert 1 <= len(told) <= 5 + OUTAGE_S // 30, told
    waits = [line for line in lines if "waits for the cluster" in line]
    assert len(waits) <= 5, waits


async def all_are_there(
    site: KubeSite, before: Mapping[tuple[str, str], LaunchRow], pods: Mapping[tuple[str, str], str], interrupted: str
) -> None:
    """The fifty are the same pods; the start that the hub's restart interrupted has become a server as well."""
    await until(lambda: ready(site, "boss"), within_s=GONE_WITHIN_S, every_s=0.5, what="boss's server is adopted")
    await agreed(site, within_s=GONE_WITHIN_S)
    assert not await served(site, CROWD)
    now = ids(await running(site))
    assert now == {**ids(before), ("boss", ""): interrupted}
    there = await uids(site)
    assert {server: there[server] for server in pods} == pods


def ids(launches: Mapping[tuple[str, str], LaunchRow]) -> dict[tuple[str, str], str]:
    return {server: row.id for server, row in launches.items()}


async def steady(site: KubeSite, before: Mapping[str, LaunchRow], *people: str) -> bool:
    """Nothing has happened to these servers: the ledger counts them, the hub sends people there."""
    now = await active(site)
    for name in people:
        assert (now[name].id, now[name].state) == (before[name].id, LaunchState.RUNNING), "unknown was taken for ended"
        assert await ready(site, name)
    return True


async def is_stopping(site: KubeSite, name: str) -> bool:
    return (await active(site))[name].state is LaunchState.STOPPING
