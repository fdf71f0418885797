"""A site with running pods that loses its databases, and what must be the same afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import urllib.parse
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.kube_site import KubeSite
from tests.servers.adopt import adopt
from tests.servers.kubernetes.client import Client
from tests.servers.tiny_server import get
from tests.waiting import LONG

SERVERS = (
    *(("ada", ""), ("ada", "work"), ("bob", ""), ("carl", ""), ("dora", "thesis")),
    *(
        (name, server)
        for name in ("ada", "bob", "carl", "dora", "emil", "boss")
        for server in ("one", "two", "three")
        if LONG and (name, server) not in {("ada", "three"), ("bob", "three"), ("boss", "three")}
    ),
)
"""Five servers of four people; twenty of six in the long run."""

SETTINGS = """
c.Reconciler.every_s = 2
c.Reconciler.reap_grace_s = 1
c.DaasSpawner.profile_list = [
    {"display_name": "Little", "slug": "little", "default": True,
     "resources": {"cpu_limit": 0.5, "cpu_guarantee": 0.01, "mem_limit": "64M", "mem_guarantee": "32M"}},
]
"""
"""A reconciler in a hurry: what it would wrongly stop, it stops while the test looks."""


@dataclass(frozen=True)
class Process:
    """What makes a server the same one."""

    pod: str
    pod_uid: str
    restarts: int
    pid: int
    started: str
    """In ticks since the machine's boot, as the kernel has it."""
    token: str


class RecoverySite(KubeSite):
    """A site whose hub and ledger can be lost."""

    def __init__(self, cluster: Client, namespace: str, image: str, *, more: str = "") -> None:
        super().__init__(cluster, namespace, image, more=SETTINGS + more, proxy=False)

    async def stop(self) -> None:
        """Pods go first: a hub that is down would leave them."""
        words = ("-n", self.namespace, "delete", "pods", "--all", "--grace-period=1", "--wait=true")
        await asyncio.to_thread(self.cluster.kubectl, *words)
        await super().stop()

    async def start_servers(self) -> dict[tuple[str, str], Process]:
        """Sign everybody in and start every server."""
        for name in dict.fromkeys(name for name, _ in SERVERS):
            await self.sign_in(name)
        answers = await asyncio.gather(*(self.hub.start_server(*server) for server in SERVERS))
        assert {status for status, _ in answers} <= {201, 202}, answers
        return await self.seen()

    async def seen(self) -> dict[tuple[str, str], Process]:
        """Every server's process, asked of the server itself."""
        pods = [pod for pod in await self.pods("daas-hub/launch") if not pod["metadata"].get("deletionTimestamp")]
        return dict(await asyncio.gather(*(asyncio.to_thread(_process, pod) for pod in pods)))

    async def lose_hub(self) -> None:
        """The hub dies, and its database is gone."""
        self.hub.signal(signal.SIGKILL)
        await self.hub.wait_gone()
        for file in self.state.glob("jupyterhub.sqlite*"):
            file.unlink()

    def lose_ledger(self) -> None:
        """The ledger is gone; nobody has it open."""
        for file in self.state.glob("ledger.sqlite*"):
            file.unlink()

    async def adopt(self, *words: str, token: bool = True) -> tuple[int, str]:
        """Exit status and output of ``daas-hub adopt``."""
        return await adopt(self.hub, *words, token=token)

    async def served(self) -> bool:
        """Whether the hub holds every server for ready."""
        models = await asyncio.gather(*(self.hub.api("GET", f"users/{name}") for name, _ in SERVERS))
        return all(
            status == 200 and (model["servers"].get(server) or {}).get("ready")
            for (status, model), (_, server) in zip(models, SERVERS, strict=True)
        )

    async def works(self, servers: Mapping[tuple[str, str], Process]) -> None:
        """The token that each server has held all the time opens the hub for it, and its OAuth client is there."""
        for (name, server), process in servers.items():
            status, model = await self.hub.api("GET", "user", token=process.token)
            assert (status, model.get("name")) == (200, name), (name, server, status, model)
        clients = self.oauth_clients()
        for name, server in servers:
            scopes = clients[f"jupyterhub-user-{name}" + (f"-{server}" if server else "")]
            assert any("access:servers" in scope for scope in scopes), scopes

    def oauth_clients(self) -> dict[str, list[str]]:
        """OAuth client → its scopes, in the hub's own database."""
        with closing(sqlite3.connect(self.state / "jupyterhub.sqlite")) as db:
            return {
                name: json.loads(scopes)
                for name, scopes in db.execute("SELECT identifier, allowed_scopes FROM oauth_clients")
            }

    def active(self) -> dict[tuple[str, str], LaunchRow]:
        """Launches that have not ended, by user and server."""
        return {(row.user_name, row.server_name): row for row in self.launches() if row.state is not LaunchState.ENDED}


def _process(pod: dict[str, Any]) -> tuple[tuple[str, str], Process]:
    meta, notes = pod["metadata"], pod["metadata"]["annotations"]
    url = f"http://{pod['status']['podIP']}:8888{notes['daas-hub/prefix']}"
    who = get(f"{url}whoami")
    argv = urllib.parse.quote(json.dumps(["cat", f"/proc/{who['pid']}/stat"]))
    stat = get(f"{url}run?{argv}")["text"]
    process = Process(
        pod=meta["name"],
        pod_uid=meta["uid"],
        restarts=sum(c["restartCount"] for c in pod["status"]["containerStatuses"]),
        pid=who["pid"],
        started=stat.rpartition(")")[2].split()[19],
        token=who["environment"]["JUPYTERHUB_API_TOKEN"],
    )
    return (notes["daas-hub/user"], notes["daas-hub/server"]), process
