"""What simulated pods lack, a server in each: ``python -m tests.bench.stand_in KUBECONFIG LOG LEAST_S MOST_S``.

Runs in the cluster's own network, where every simulated address is local. A pod that runs has its port closed, as that
of a real server that still loads, for a time between the two given ones that follows from its user's name alone: the
same for whoever started it. Then it listens there, and a line in LOG says since when: ``TIME NAMESPACE/POD USER``.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from daas_hub.clients.kube import Kube, path
from daas_hub.core.errors import BackendUnavailable

PORT = 8888
USER = "hub.jupyter.org/username"
SILENT_S = 3600.0
ANSWER = (
    b"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 6.1.1\r\nContent-Type: application/json\r\n"
    b'Content-Length: 20\r\n\r\n{"version": "6.1.1"}'
)


class StandIn:
    """One listener for each pod."""

    def __init__(self, kube: Kube, log: Path, least_s: float, most_s: float) -> None:
        self.kube, self.least_s, self.most_s = kube, least_s, most_s
        self.log = log.open("a", buffering=1)
        self.pods: dict[str, asyncio.Task[asyncio.Server]] = {}
        """By uid; done while it listens."""

    async def run(self) -> None:
        """Follow all pods of the cluster, for ever."""
        while True:
            with suppress(BackendUnavailable):
                query = {"watch": "true"}
                async for event in self.kube.stream(path("pods"), query, silent_s=SILENT_S, opened=lambda: None):
                    self.take(event["type"], event["object"])
            await asyncio.sleep(1)

    def take(self, kind: str, pod: dict[str, Any]) -> None:
        """One change of a pod."""
        uid, ip = pod["metadata"]["uid"], (pod.get("status") or {}).get("podIP")
        simulated = "kwok.x-k8s.io/node" in (pod["spec"].get("nodeSelector") or {})
        if kind == "DELETED" or pod["metadata"].get("deletionTimestamp"):
            task = self.pods.pop(uid, None)
            if task is not None and task.done():
                task.result().close()
            elif task is not None:
                task.cancel()
        elif ip and simulated and uid not in self.pods:
            self.pods[uid] = asyncio.create_task(self.begin(pod, ip))

    async def begin(self, pod: dict[str, Any], ip: str) -> asyncio.Server:
        """Load, then listen."""
        meta = pod["metadata"]
        user = (meta.get("labels") or {}).get(USER, meta["name"])
        share = zlib.crc32(user.encode()) % 1000 / 1000
        await asyncio.sleep(self.least_s + share * (self.most_s - self.least_s))
        server = await asyncio.start_server(answer, ip, PORT, backlog=256)
        self.log.write(f"{time.time():.6f} {meta['namespace']}/{meta['name']} {user}\n")
        return server


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As jupyterhub-singleuser answers ``/api``, as often as asked."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(kubeconfig: str, log: str, least_s: str, most_s: str) -> None:
    """A listener needs a file descriptor, and there may be thousands."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    await StandIn(Kube(kubeconfig=kubeconfig), Path(log), float(least_s), float(most_s)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
