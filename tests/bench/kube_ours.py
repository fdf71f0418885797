"""Our watch of pods: ``kube_ours.py KUBECONFIG NAMESPACE IDLE_S GAP_S``; without idle time their uids are asked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from kube_measure import measure

from daas_hub.backends.kube import KubeBackend


async def main(kubeconfig: str, namespace: str, idle_s: float, gap_s: float) -> None:
    """Start the watch as the hub does, and measure."""
    backend = KubeBackend(kubeconfig=kubeconfig, namespace=namespace, hub_id="bench")
    pods = backend._pods

    async def start() -> Iterable[str]:
        assert await pods.synced(60)
        return pods.objects

    async def who() -> None:
        assert await pods.known(next(iter(pods.objects)), "nobody") is None
        assert all(row.uid for row in pods.objects.values())

    await measure(start, idle_s, gap_s, None if idle_s else who)
    await backend.close()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
