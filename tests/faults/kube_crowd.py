"""A site with fifty servers on a cluster: five real ones, and forty-five of simulated pods that all answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from daas_hub.core.models import LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import LaunchRow
from tests.faults.aftermath import faulty_site, watched_kube_site
from tests.faults.kube_faults import rows
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster

PEOPLE = ("ada", "bob", "carl", "dora", "emil")
NAMES = tuple(f"s{number}" for number in range(9))
REAL = tuple((person, "") for person in PEOPLE)
CROWD = (*REAL, *((person, name) for person in PEOPLE for name in NAMES))
"""(user, server): five real ones, then forty-five simulated ones."""

Server = tuple[str, str]


def profiles(waits: str, node: str = "none") -> str:
    """Two profiles more: ``waits`` needs a node with the label of that name; ``simulated`` runs on that node."""
    tolerations = [{"key": SIMULATED, "operator": "Exists", "effect": "NoSchedule"}]
    resources = {"cpu_limit": 0.1, "cpu_guarantee": 0.01, "mem_limit": "64M", "mem_guarantee": "16M"}
    both = [
        {
            "display_name": "Waits",
            "slug": "waits",
            "resources": resources,
            "kubespawner_override": {"node_selector": {waits: "yes"}},
        },
        {
            "display_name": "Simulated",
            "slug": "simulated",
            "resources": resources,
            "kubespawner_override": {
                "node_selector": {"kubernetes.io/hostname": node},
                "tolerations": tolerations,
            },
        },
    ]
    return f"c.DaasSpawner.profile_list.extend({both!r})\n"


@asynccontextmanager
async def simulated_site(cluster: Cluster, image: str, waits: str, *people: str) -> AsyncIterator[tuple[KubeSite, str]]:
    """A site with a simulated node of its own, and that node's name; these people are signed in.

    Homes are folders of the site: for simulated nodes nobody makes a disk.
    """
    node = f"crowd-{new_id()[:8]}"
    folder = cluster.addons.volumes_folder / node
    folder.mkdir(mode=0o755)
    more = (
        "c.JupyterHub.named_server_limit_per_user = 20\n"
        f"c.KubeBackend.volume_roots = [{{'hostPath': {{'path': {str(folder)!r}}}}}]\n"
        f"c.KubeBackend.volumes = {{'home': {{'kind': 'hostPath', 'path': '{folder}/{{username}}'}}}}\n"
    )
    await asyncio.to_thread(cluster.add_simulated_node, node)
    with cluster.namespace(**RESTRICTED) as namespace:
        site = watched_kube_site(cluster, namespace, image, more=more + profiles(waits, node))
        for person in people:
            home = folder / person
            home.mkdir(mode=0o700)
            os.chown(home, site.person(person).uid, site.person(person).gid)
        try:
            async with faulty_site(*people, site=site):
                yield site, node
        finally:
            disks = ("delete", "pv", "-l", f"daas-hub/hub={site.hub_id}", "--wait=false")
            for words in (("delete", "node", node, "--wait=false", "--ignore-not-found"), disks):
                await asyncio.to_thread(cluster.kubectl, *words)


@asynccontextmanager
async def crowded_site(cluster: Cluster, image: str, waits: str) -> AsyncIterator[KubeSite]:
    """All of them run; ``boss`` is signed in as well."""
    async with simulated_site(cluster, image, waits, *PEOPLE, "boss") as (site, _):
        await start_crowd(site)
        yield site


async def start_crowd(site: KubeSite) -> None:
    """Start everything, ten at a time."""
    ten = asyncio.Semaphore(10)

    async def one(person: str, name: str) -> None:
        async with ten:
            status, answer = await site.hub.start_server(person, name, {"profile": "simulated"} if name else None)
            assert status in (201, 202), (person, name, answer)

    await asyncio.gather(*(one(*server) for server in CROWD))


async def running(site: KubeSite) -> dict[Server, LaunchRow]:
    """Server → its running launch."""
    return {(r.user_name, r.server_name): r for r in await rows(site) if r.state is LaunchState.RUNNING}


async def served(site: KubeSite, servers: Iterable[Server]) -> list[Server]:
    """Those of these servers that the hub does not send people to."""
    wanted = list(servers)
    status, users = await site.hub.api("GET", "users")
    assert status == 200, users
    there = {(u["name"], name) for u in users for name, one in u["servers"].items() if one["ready"]}
    return [server for server in wanted if server not in there]


async def uids(site: KubeSite) -> dict[Server, str]:
    """Server → uid of its pod."""
    notes = [(pod["metadata"]["annotations"], pod["metadata"]["uid"]) for pod in await site.pods()]
    return {(note["daas-hub/user"], note["daas-hub/server"]): uid for note, uid in notes}
