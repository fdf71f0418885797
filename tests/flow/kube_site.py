"""A whole site whose servers are pods of a real cluster: the same directory, people and hub as ``site.Site``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.flow.site import Site
from tests.servers.kubernetes.client import Client

CONFIG = """
c.DaasHub.backends = {{"kubernetes": "daas_hub.backends.kube.KubeBackend"}}
c.KubeBackend.kubeconfig = {kubeconfig!r}
c.KubeBackend.namespace = {namespace!r}
c.KubeBackend.home_size = "1Gi"
c.KubeBackend.stop_grace_s = 3
c.KubeBackend.wait_policy_s = 90
c.KubeSpawner.image = {image!r}
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.DaasSpawner.profile_list = [
    {{"display_name": "Basic", "slug": "basic", "default": True,
      "resources": {{"cpu_limit": 0.5, "mem_limit": "256M"}}}},
    {{"display_name": "Small", "slug": "small", "resources": {{"cpu_limit": 0.2, "mem_limit": "128M"}},
      "environment": {{"FROM_PROFILE": "yes"}}, "kubespawner_override": {{"extra_labels": {{"tier": "small"}}}}}},
]
"""


class KubeSite(Site):
    """``image`` has a ``jupyterhub-singleuser``; servers are pods in ``namespace``."""

    def __init__(self, cluster: Client, namespace: str, image: str, *, more: str = "", **options: Any) -> None:
        config = CONFIG.format(kubeconfig=str(cluster.kubeconfig), namespace=namespace, image=image)
        super().__init__(more=config + more, cmd=["jupyterhub-singleuser"], **options)
        self.cluster, self.namespace, self.image = cluster, namespace, image
        self.hub_host = cluster.host

    async def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """The pods of the namespace."""
        return await self.objects("pods", selector)

    async def objects(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Everything of a kind in the namespace."""
        words = ["-n", self.namespace, "get", kind, "-o", "json", *(["-l", selector] if selector else [])]
        items: list[dict[str, Any]] = json.loads(await asyncio.to_thread(self.cluster.kubectl, *words))["items"]
        return items

    async def inside(self, pod: str, *argv: str) -> str:
        """What a program prints that runs in a server's container."""
        words = ("-n", self.namespace, "exec", pod, "-c", "notebook", "--", *argv)
        return await asyncio.to_thread(self.cluster.kubectl, *words)
