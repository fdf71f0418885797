"""KubeSpawner's own reflector of pods, in the peer's environment: ``kube_peer.py NAMESPACE IDLE_S GAP_S WATCH_S``.

WATCH_S 0 leaves every setting as installed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from kube_measure import measure
from kubespawner.clients import load_config
from kubespawner.spawner import PodReflector


async def main(namespace: str, idle_s: float, gap_s: float, watch_s: int) -> None:
    """Start the reflector as the hub does, and measure."""
    load_config()
    tuned = {"timeout_seconds": watch_s, "request_timeout": watch_s, "restart_seconds": watch_s} if watch_s else {}
    reflector = PodReflector(namespace=namespace, labels={"component": "singleuser-server"}, **tuned)

    async def start() -> Iterable[str]:
        await reflector.start()
        return [pod["metadata"]["name"] for pod in reflector.pods.values()]

    await measure(start, idle_s, gap_s)
    await reflector.stop()


asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
