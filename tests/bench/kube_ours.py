"""Our watch of pods: ``kube_ours.py KUBECONFIG NAMESPACE IDLE_S``."""

from __future__ import annotations

import asyncio
import sys

from kube_measure import measure

from daas_hub.backends.kube import KubeBackend


async def main(kubeconfig: str, namespace: str, idle_s: float) -> None:
    """Start the watch as the hub does, and measure."""
    backend = KubeBackend(kubeconfig=kubeconfig, namespace=namespace, hub_id="bench")

    async def start() -> int:
        assert await backend._pods.synced(60)
        return len(backend._pods.objects)

    await measure(start, idle_s)
    await backend.close()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
