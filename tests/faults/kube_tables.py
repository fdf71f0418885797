"""A watch of pods by way of a proxy with faults, on a cluster that simulates them, and hands that reach past it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daas_hub.backends.kube_pods import Pods
from daas_hub.clients.kube import Kube, path
from daas_hub.core.models import Json
from daas_hub.core.pods import address
from tests.servers.api_proxy import ApiProxy, Asked
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster
from tests.waiting import until

SILENT_S = 3.0
NODE = "simulated-tables"
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}


def is_watch(asked: Asked) -> bool:
    """Whether it is the watch of pods."""
    return asked.watch and asked.path.endswith("/pods")


class Place:
    """One watch of a namespace's pods by way of the proxy, and hands that reach past it."""

    def __init__(self, cluster: Cluster, namespace: str, proxy: ApiProxy) -> None:
        self.cluster, self.namespace, self.proxy = cluster, namespace, proxy
        self.kube = Kube(kubeconfig=str(proxy.kubeconfig))
        self.past = Kube(kubeconfig=str(cluster.kubeconfig))
        self.log = logging.getLogger("tables")
        self.pods = self.another()

    def another(self) -> Pods:
        """A watch of the same."""
        return Pods(self.kube, self.namespace, "watched=yes", log=self.log, silent_s=SILENT_S)

    async def make(self, name: str, *, node: str = NODE, containers: int = 1, **more: Any) -> Json:
        """A pod that a simulated node runs at once, or that nobody runs."""
        body: Json = {
            "metadata": {"name": name, "labels": {"watched": "yes"}, **more},
            "spec": {
                "tolerations": [{"key": SIMULATED, "operator": "Exists"}],
                "containers": [
                    {"name": "notebook" if number == 0 else f"beside-{number}", "image": "none"}
                    for number in range(containers)
                ],
                **({"nodeName": node} if node else {"schedulerName": "nobody"}),
            },
        }
        return await self.past.call("POST", path("pods", self.namespace), body=body)

    async def say(self, name: str, **status: Any) -> None:
        """What kubelet would say of it."""
        patch, where = json.dumps({"status": status}), ("-n", self.namespace, "patch", "pod", name)
        words = (*where, "--subresource=status", "--type=merge", "-p", patch)
        await asyncio.to_thread(self.cluster.kubectl, *words)

    async def delete(self, name: str) -> None:
        """Gone at once."""
        body: Json = {"gracePeriodSeconds": 0}
        await self.past.call("DELETE", path("pods", self.namespace, name), body=body)

    async def until_running(self, *names: str) -> None:
        """Wait until these run, by the watch."""
        await until(lambda: all(self.runs(name) for name in names), within_s=30, what=f"{names} run")

    def runs(self, name: str) -> bool:
        """Whether the row alone says that the server runs."""
        pod = self.pods.told(name)
        return pod is not None and address(pod) is not None

    async def seen(self, name: str, uid: str | None = None) -> Json | None:
        """As the backend looks: what is known, else the pod itself."""
        return await self.pods.known(name, uid) or await self.pods.ask(self.namespace, name)

    def asked_for(self, name: str) -> int:
        """How often this pod itself was asked for."""
        return self.proxy.count(lambda asked: asked.path.endswith(f"/pods/{name}"))


@asynccontextmanager
async def tables_place(kube_rig: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    """Three pods that run: kept, going, ending."""
    await asyncio.to_thread(kube_rig.add_simulated_node, NODE)
    proxy = await ApiProxy(kube_rig.keys, tmp_path).start()
    try:
        with kube_rig.namespace() as namespace:
            await asyncio.to_thread(kube_rig.until, lambda: kube_rig.get("serviceaccount", "default", namespace))
            made = Place(kube_rig, namespace, proxy)
            for name in ("kept", "going", "ending"):
                await made.make(name)
            assert await made.pods.synced(30)
            await made.until_running("kept", "going", "ending")
            yield made
            await made.pods.close()
            await made.kube.close()
            await made.past.close()
    finally:
        await proxy.stop()
        await asyncio.to_thread(kube_rig.kubectl, "delete", "node", NODE, "--wait=false")
