"""One real cluster with simulated pods and a hub for each side: ours, KubeSpawner 7.1.0 as installed, and tuned.

Ours has all of the bundle on the way: people of a real directory, a profile, limits on three resources, a home that is
a claim with its disk, the person's own uid and gids. KubeSpawner's pods have none of it: it does less.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daas_hub.core.models import LaunchState, Resource, Who
from tests.bench.driven_hub import RECORDING, DrivenHub, Server
from tests.bench.instant import LISTENER
from tests.bench.peers import python_of
from tests.bench.stand_in import USER, answer
from tests.flow.kube_site import KubeSite
from tests.flow.site import Site
from tests.servers.hub import HubServer
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.program import Program
from tests.servers.slapd import BASE

NODE_PODS = 1_000
TUNED_S = 600
WORDS = {"peer": "as installed", "tuned": f"tuned: watches of {TUNED_S} s, polls every 300 s, no events"}
SIMULATED_ONLY = f"""
c.KubeSpawner.image = "site/lab:1"
c.KubeSpawner.node_selector = {{{SIMULATED!r}: "fake"}}
c.KubeSpawner.tolerations = [{{"key": {SIMULATED!r}, "operator": "Exists"}}]
"""
OURS = """
c.KubeBackend.volumes = {"home": {"kind": "hostPath", "path": "/srv/homes/{username}"}}
c.KubeBackend.volume_roots = [{"hostPath": {"path": "/srv/homes"}}]
"""
BUNDLE = """
c.DaasHub.backends = {"instant": "tests.bench.instant.InstantBackend"}
"""
NOOP = """
c.JupyterHub.spawner_class = "tests.bench.instant.InstantSpawner"
"""
HUBS = {"ours": OURS, "real": "", "bundle": BUNDLE, "noop": NOOP}
"""Sides with our own hub around: its directory, sign-in and services."""
PEER = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.KubeSpawner.namespace = {namespace!r}
c.KubeSpawner.cpu_limit = 0.5
c.KubeSpawner.mem_limit = "256M"
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.start_timeout = 300
# As ours: a simulated pod goes at once.
c.KubeSpawner.delete_grace_period = 1
"""
TUNED = f"""
c.ResourceReflector.timeout_seconds = {TUNED_S}
c.ResourceReflector.request_timeout = {TUNED_S}
c.ResourceReflector.restart_seconds = {TUNED_S}
c.KubeSpawner.poll_interval = 300
c.KubeSpawner.events_enabled = False
"""


class BenchSite(KubeSite):
    """Ends without stopping thousands of servers: their cluster ends, too."""

    async def stop_servers(self) -> None:
        """Leave them."""


def names(count: int) -> list[str]:
    """The people."""
    return [f"p{number:04}" for number in range(count)]


async def enrol(site: Site, people: Sequence[str]) -> None:
    """Into the directory, signed in once by the hub's form."""
    entries = [
        f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\n"
        f"cn: {name}\nsn: Bench\nuidNumber: {21000 + number}\ngidNumber: 30001\nhomeDirectory: /home/{name}\n"
        f"userPassword: {name}-secret"
        for number, name in enumerate(people)
    ]
    await site.slapd.add("\n\n".join(entries) + "\n")
    turn = asyncio.Semaphore(8)

    async def one(name: str) -> None:
        async with turn:
            status, said = await site.login_answer(name, f"{name}-secret")
            assert status == 200, (name, status, said)

    await asyncio.gather(*(one(name) for name in people))


def limit(site: KubeSite) -> None:
    """Three resources, each limited for everybody and for a group as a whole, far away."""
    ledger = site.ledger()
    try:
        for resource, amount in ((Resource.SERVERS, 1e6), (Resource.CORES, 1e6), (Resource.MEMORY_BYTES, 2.0**52)):
            for who, name in ((Who.DEFAULT_EACH, ""), (Who.GROUP_TOTAL, "lab")):
                ledger.limits.set(who, name, resource, amount, by="bench", now=datetime.now(UTC))
    finally:
        ledger.close()


@contextmanager
def simulated_cluster(pods: int, least_s: float, most_s: float) -> Any:
    """A cluster for so many simulated pods, whose servers listen after a while; the cluster and their log."""
    cluster = Cluster().start()
    try:
        # Its one server for all answers at every address from the first moment on.
        cluster.addons.servers.stop()
        for number in range(1 + pods // NODE_PODS):
            cluster.add_simulated_node(f"simulated-{number}", pods=str(NODE_PODS + 100))
        log = cluster.place.data / "stand-in.log"
        log.touch()
        argv = [sys.executable, "-m", "tests.bench.stand_in", str(cluster.keys.kubeconfig("admin"))]
        stand_in = Program(
            "stand-in",
            [*argv, str(log), str(least_s), str(most_s)],
            cluster.space,
            environment={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
        )
        stand_in.start()
        try:
            yield cluster, log
        finally:
            stand_in.stop()
    finally:
        cluster.stop()


class Side:
    """One side: its hub, its namespace, its people."""

    driven: DrivenHub
    site: KubeSite | None = None
    """Ours only: where its ledger and directory are."""
    body: dict[str, str] | None = None

    def __init__(self, name: str, cluster: Cluster, namespace: str) -> None:
        self.name, self.cluster, self.namespace = name, cluster, namespace

    async def pods(self) -> list[dict[str, Any]]:
        """The running pods of its namespace."""
        said = await asyncio.to_thread(self.cluster.kubectl, "get", "pods", "-n", self.namespace, "-o", "json")
        pods: list[dict[str, Any]] = json.loads(said)["items"]
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    async def check(self, expected: set[Server]) -> None:
        """The oracle: hub, cluster, servers and, with us, ledger know the same servers, and each one answers."""
        assert await self.driven.running() == expected
        if self.site is not None:
            assert await asyncio.to_thread(self.rows) == dict.fromkeys(expected, LaunchState.RUNNING)
        if self.name in ("ours", "peer", "tuned"):
            await self._check_pods(expected)

    async def _check_pods(self, expected: set[Server]) -> None:
        pods = await self.pods()
        assert len(pods) == len(expected), (self.name, len(pods), len(expected))
        assert {pod["metadata"]["labels"][USER] for pod in pods} == {user for user, _ in expected}
        addresses = {pod["status"]["podIP"] for pod in pods}
        assert len(addresses) == len(expected)
        turn = asyncio.Semaphore(50)

        async def usable(ip: str) -> None:
            async with turn:
                _, writer = await asyncio.wait_for(asyncio.open_connection(ip, 8888), 20)
                writer.close()

        await asyncio.gather(*(usable(ip) for ip in addresses))

    def rows(self) -> dict[Server, LaunchState]:
        """What the ledger has not ended; blocks."""
        assert self.site is not None
        ledger = self.site.ledger()
        try:
            rows = ledger.launches(limit=10**6)
        finally:
            ledger.close()
        return {(row.user_name, row.server_name): row.state for row in rows if row.state is not LaunchState.ENDED}


@asynccontextmanager
async def sides(
    cluster: Cluster, people: Sequence[str], *which: str, pods: str = SIMULATED_ONLY
) -> AsyncIterator[dict[str, Side]]:
    """The hubs, running, with their people. ``which``: ours, peer and tuned without it. ``pods``: how all look."""
    made: dict[str, Side] = {}
    async with AsyncExitStack() as stack:
        for name in which or ("ours", "peer", "tuned"):
            namespace = stack.enter_context(cluster.namespace())
            begin = _ours if name in HUBS else _peer
            made[name] = await begin(stack, Side(name, cluster, namespace), people, pods)
            stack.push_async_callback(made[name].driven.close)
        yield made


async def _ours(stack: AsyncExitStack, side: Side, people: Sequence[str], pods: str) -> Side:
    cluster = side.cluster
    env = {LISTENER: await listener(stack, cluster.host)}
    more = pods + HUBS[side.name] + RECORDING
    site = BenchSite(cluster, side.namespace, "site/lab:1", more=more, proxy=False, env=env)
    stack.push_async_callback(site.stop)
    await site.start()
    await enrol(site, people)
    await asyncio.to_thread(limit, site)
    side.driven = DrivenHub(site.hub)
    if side.name != "noop":
        side.site, side.body = site, {"profile": "basic"}
    return side


async def listener(stack: AsyncExitStack, host: str) -> str:
    """The URL of a server that answers for all that are not pods."""
    server = await asyncio.start_server(answer, host, 0, backlog=256)
    stack.callback(server.close)
    return f"http://{host}:{server.sockets[0].getsockname()[1]}"


async def _peer(stack: AsyncExitStack, side: Side, people: Sequence[str], pods: str) -> Side:
    root = Path(tempfile.mkdtemp(prefix="daas-bench-"))
    stack.callback(shutil.rmtree, root, ignore_errors=True)
    config = PEER.format(namespace=side.namespace) + pods + RECORDING + (TUNED if side.name == "tuned" else "")
    hub = HubServer(root, config, env={"KUBECONFIG": str(side.cluster.kubeconfig)})
    hub.python = str(await asyncio.to_thread(python_of, "kubespawner"))
    hub.hub_host = side.cluster.host
    stack.push_async_callback(hub.stop)
    await hub.start()
    side.driven = DrivenHub(hub)
    status, said = await side.driven.api("POST", "users", {"usernames": list(people)})
    assert status == 201, said
    return side
