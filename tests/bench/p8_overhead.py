"""What a spawner adds after a server can answer, against KubeSpawner: 200 starts through a real hub and API server.

Pods are simulated, their servers are closed ports for 0.3 to 2.5 s and answer then; from that moment, by the server's
own clock, to the moment when the hub gives it its route. Starts come in a stream, as people do, the sides in turns.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.driven_hub import Server, route
from tests.bench.kube_sides import WORDS, Side, names, sides, simulated_cluster
from tests.servers.kubernetes.cluster import Cluster

GOAL = "P8"
STARTS, LONG_STARTS = 200, 1_000
TURNS = 4
WARM = 10
"""Starts of each side before those that count: a hub's first ones make its connections."""
EVERY_S = 0.3
"""Between two starts: a hub that is busy with starts only would be measured, not a spawner."""
LEAST_S, MOST_S = 0.3, 2.5
MEAN_S, P95_S, TIMES = 0.08, 0.2, 10.0


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster, three hubs, every side in turns. ``long``: 1,000 starts a side instead of 200."""
    return [partial(_run, LONG_STARTS if long else STARTS)]


def _run(starts: int) -> list[dict[str, Any]]:
    with simulated_cluster(3 * starts, LEAST_S, MOST_S) as (cluster, log):
        return asyncio.run(_measure(cluster, log, starts))


async def _measure(cluster: Cluster, log: Path, starts: int) -> list[dict[str, Any]]:
    people = names(WARM + starts)
    size = starts // TURNS
    found: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    async with sides(cluster, people) as all_sides:
        for side in all_sides.values():
            await overheads(side, [(name, "") for name in people[:WARM]], log)
        for begin in range(WARM, WARM + starts, size):
            turn: list[Server] = [(name, "") for name in people[begin : begin + size]]
            for name, side in all_sides.items():
                used = side.driven.cpu_s()
                found.setdefault(name, []).extend(await overheads(side, turn, log))
                cpu[name] = cpu.get(name, 0.0) + (side.driven.cpu_s() - used) / starts
        for side in all_sides.values():
            await side.check({(name, "") for name in people})
    return _rows(starts, found, cpu)


async def overheads(side: Side, turn: Sequence[Server], log: Path) -> list[float]:
    """Start them; of each, the seconds from when it could answer to when the hub said ready."""
    ready = await side.driven.start_paced(turn, every_s=EVERY_S, body=side.body)
    begun = listening(log, side.namespace)
    return [ready[route(server)] - begun[server[0]] for server in turn]


def listening(log: Path, namespace: str) -> dict[str, float]:
    """By user, since when her server listens, as the stand-in wrote it down."""
    lines = (line.split(" ") for line in log.read_text().splitlines())
    return {user: float(at) for at, pod, user in lines if pod.partition("/")[0] == namespace}


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def _rows(starts: int, found: dict[str, list[float]], cpu: dict[str, float]) -> list[dict[str, Any]]:
    rows = []
    for side, words in WORDS.items():
        conditions = (
            f"{starts} starts a side, one every {EVERY_S:g} s, in {TURNS} turns; simulated pods on a real API server, "
            f"servers that listen {LEAST_S:g} to {MOST_S:g} s after their pod runs; ours with directory, profile, "
            f"limits, claim and uid, KubeSpawner 7.1.0 {words}, without any; a proxy that forwards nothing; all "
            f"{starts} of each side answer, hub = cluster = ledger; {WARM} starts a side before, not counted; hub CPU "
            f"per start {cpu['ours'] * 1e3:.0f} against {cpu[side] * 1e3:.0f} ms"
        )
        for what, of, most_s in (("mean", statistics.mean, MEAN_S), ("p95", p95, P95_S)):
            ours, peer = of(found["ours"]), of(found[side])
            rows.append(
                {
                    "goal": GOAL,
                    "name": f"overhead after the server can answer, {what}, peer {words.partition(':')[0]}",
                    "unit": "s",
                    "ours": ours,
                    "peer": peer,
                    "ratio": peer / ours,
                    "target": f">= {TIMES:g} x, <= {most_s:g} s" if what == "mean" else f"<= {most_s:g} s",
                    "met": ours <= most_s and (what != "mean" or peer / ours >= TIMES),
                    "conditions": conditions,
                }
            )
    return rows
