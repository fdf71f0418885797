"""Runs in the peer's environment: jupyterhub-usage-quotas 0.2.1 against a Prometheus that answers at once.

``python usage_quotas_peer.py`` prints "ready"; for each line on stdin (a number n) it evaluates one policy n times
and prints a JSON list of [wall_s, cpu_s] of the event loop's thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from multiprocessing import Process, Queue

POINTS = 14_400
"""A sample a minute for eight hours on each of thirty days."""


def canned() -> bytes:
    """A range vector of one user over 30 days, as Prometheus answers it."""
    began = 1_700_000_000
    values = [[began + 60 * i, str(2_147_483_648 + i % 7)] for i in range(POINTS)]
    result = [{"metric": {"pod": "jupyter-alice", "namespace": "hub"}, "values": values}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def serve(port: Queue) -> None:  # type: ignore[type-arg]
    """A Prometheus in a process of its own, so that its time is not counted."""
    body = canned()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def measure(url: str) -> None:
    """Evaluate on demand."""
    from jupyterhub_usage_quotas.manager import UsageQuotaManager  # type: ignore[import-not-found]

    policy = {"resource": "memory", "limit": "999999G", "window": 30, "scope": {"group": ["students"]}}
    manager = UsageQuotaManager(prometheus_url=url, hub_namespace="hub", policy=[policy])
    manager.log.setLevel(logging.ERROR)
    assert (await manager.enforce("alice", ["students"]))["allow_server_launch"] is True
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        samples = []
        for _ in range(int(line)):
            wall, cpu = time.perf_counter(), time.thread_time()
            await manager.enforce("alice", ["students"])
            samples.append([time.perf_counter() - wall, time.thread_time() - cpu])
        print(json.dumps(samples), flush=True)
    await manager.prometheus_client.close()


if __name__ == "__main__":
    ports: Queue[int] = Queue()
    prometheus = Process(target=serve, args=(ports,), daemon=True)
    prometheus.start()
    asyncio.run(measure(f"http://127.0.0.1:{ports.get(timeout=30)}"))
    prometheus.terminate()
