"""Starts a second and hub CPU per start, with all of the bundle, against a spawner that does nothing in the same hub.

The bundle alone (profile, account of a real directory, limits, reservation, volume, states, steps) has servers that
cost nothing, as the no-op spawner has. With Kubernetes it has pods on a real API server, as KubeSpawner has.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.driven_hub import Server
from tests.bench.kube_sides import WORDS, Side, names, sides, simulated_cluster
from tests.servers.kubernetes.cluster import Cluster

GOAL = "P13"
STARTS, LONG_STARTS = 100, 500
TURNS = 3
AT_ONCE = 64
WARM = 10
RATE, EXTRA_S = 0.9, 0.003
SIDES = ("noop", "bundle", "ours", "peer", "tuned")


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: five hubs beside one cluster, in turns. ``long``: 500 starts a turn instead of 100."""
    return [partial(_run, LONG_STARTS if long else STARTS)]


def _run(starts: int) -> list[dict[str, Any]]:
    with simulated_cluster(3 * starts, 0, 0) as (cluster, _):
        return asyncio.run(_measure(cluster, starts))


async def _measure(cluster: Cluster, starts: int) -> list[dict[str, Any]]:
    people = names(starts)
    everybody: list[Server] = [(name, "") for name in people]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    async with sides(cluster, people, *SIDES) as all_sides:
        for side in all_sides.values():
            await _start(side, everybody[:WARM])
        for _ in range(TURNS):
            for name, side in all_sides.items():
                found[name].append(await _start(side, everybody))
    return _rows(starts, {name: _medians(turns) for name, turns in found.items()})


async def _start(side: Side, servers: list[Server]) -> tuple[float, float]:
    """Start all, look that all are there, stop them; starts a second, and seconds of the hub's CPU per start."""
    side.driven.forget()
    wall_s, cpu_s = await side.driven.start_all(servers, at_once=AT_ONCE, body=side.body)
    await side.check(set(servers))
    await side.driven.stop_all(servers)
    return len(servers) / wall_s, cpu_s / len(servers)


def _medians(turns: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(rate for rate, _ in turns), statistics.median(cpu_s for _, cpu_s in turns)


def _rows(starts: int, sides: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """The bundle alone and with pods, each against the no-op spawner; KubeSpawner against it as well, to compare."""
    noop_rate, noop_s = sides["noop"]
    said = ", ".join(f"{name} {rate:.1f}/s and {cpu_s * 1e3:.1f} ms" for name, (rate, cpu_s) in sides.items())
    conditions = (
        f"{starts} starts a turn, {AT_ONCE} at once, median of {TURNS} turns; a person each of a real directory; the "
        "hub's own process only; a proxy that forwards nothing; after each turn all answer, hub = ledger = cluster; "
        f"all sides: {said}; peer and tuned are KubeSpawner 7.1.0 {WORDS['peer']} and {WORDS['tuned']}, without "
        "directory, limits and claims"
    )
    rows = []
    for name, words in (("bundle", "bundle, instant servers"), ("ours", "bundle with pods")):
        rate, cpu_s = sides[name]
        rows += [
            _row(f"starts a second, {words}", "1/s", rate, noop_rate, rate / noop_rate, f">= {RATE:g} x", conditions),
            _row(
                f"extra hub CPU per start, {words}",
                "s",
                cpu_s - noop_s,
                min(sides["peer"][1], sides["tuned"][1]) - noop_s if name == "ours" else None,
                cpu_s / noop_s,
                f"<= {EXTRA_S * 1e3:g} ms",
                conditions,
            ),
        ]
        rows[-2]["met"] = rate >= RATE * noop_rate
        rows[-1]["met"] = cpu_s - noop_s <= EXTRA_S
    return rows


def _row(
    name: str, unit: str, ours: float, peer: float | None, ratio: float, target: str, conditions: str
) -> dict[str, Any]:
    return {
        "goal": GOAL,
        "name": name,
        "unit": unit,
        "ours": ours,
        "peer": peer,
        "ratio": ratio,
        "target": target,
        "met": False,
        "conditions": conditions,
    }
