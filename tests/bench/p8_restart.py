"""A hub that is restarted while thousands of pods run, against KubeSpawner: until it answers, and none forgotten.

The pods are simulated, their servers answer. Time and CPU count from the new process's start to its first answer,
and to the moment when it holds every server for running; the sides in turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.bench.driven_hub import Server
from tests.bench.kube_sides import WORDS, Side, names, sides, simulated_cluster
from tests.servers.kubernetes.cluster import Cluster
from tests.waiting import until

GOAL = "P8-restart"
PEOPLE = 100
SERVERS, LONG_SERVERS = 2, 20
"""Named servers of each person: 200 servers a side, and 2,000."""
TURNS = 3
AT_ONCE = 50


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster, three hubs that are restarted in turns. ``long``: 2,000 servers a side instead of 200."""
    return [partial(_run, LONG_SERVERS if long else SERVERS)]


def _run(each: int) -> list[dict[str, Any]]:
    with simulated_cluster(3 * PEOPLE * each, 0, 0) as (cluster, _):
        return asyncio.run(_measure(cluster, each))


async def _measure(cluster: Cluster, each: int) -> list[dict[str, Any]]:
    people = names(PEOPLE)
    servers: list[Server] = [(name, f"s{number}") for name in people for number in range(each)]
    found: dict[str, list[dict[str, float]]] = {}
    async with sides(cluster, people) as all_sides:
        for side in all_sides.values():
            await side.driven.start_all(servers, at_once=AT_ONCE, body=side.body, within_s=900)
            await side.check(set(servers))
        for _ in range(TURNS):
            for name, side in all_sides.items():
                found.setdefault(name, []).append(await _restart(side, servers))
        for side in all_sides.values():
            await side.check(set(servers))
    return _rows(len(servers), {name: _medians(turns) for name, turns in found.items()})


async def _restart(side: Side, servers: Sequence[Server]) -> dict[str, float]:
    """Stop the hub as an upgrade does and start it; what that took."""
    hub, driven = side.driven.hub, side.driven
    await driven.close()
    await hub.stop()
    began = time.monotonic()
    await hub.start(within_s=600)
    answered_s, answered_cpu_s = time.monotonic() - began, driven.cpu_s()

    async def all_there() -> bool:
        return len(await driven.running()) == len(servers)

    await until(all_there, within_s=600, every_s=0.5, what=f"{side.name}: all servers are known again")
    known_s, known_cpu_s = time.monotonic() - began, driven.cpu_s()
    assert await driven.running() == set(servers)
    return {"answers": answered_s, "answers_cpu": answered_cpu_s, "known": known_s, "known_cpu": known_cpu_s}


def _medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def _rows(servers: int, sides: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Not slower than the peer, who holds nothing but a pod's name against what it finds."""
    rows = []
    for side, words in WORDS.items():
        conditions = (
            f"{servers:,} running servers a side, {PEOPLE} people; median of {TURNS} restarts (SIGTERM), in turns; "
            "simulated pods on a real API server, whose servers answer; ours with directory, ledger, culler, "
            f"reconciler and console; KubeSpawner 7.1.0 {words}; before and after all answer, hub = cluster = ledger: "
            "none is forgotten"
        )
        for key, what in (("answers", "until the hub answers"), ("known", "until it knows every server")):
            for suffix, unit_words in (("", "time"), ("_cpu", "hub CPU")):
                ours, peer = sides["ours"][key + suffix], sides[side][key + suffix]
                rows.append(
                    {
                        "goal": GOAL,
                        "name": f"{unit_words} {what}, peer {words.partition(':')[0]}",
                        "unit": "s",
                        "ours": ours,
                        "peer": peer,
                        "ratio": peer / ours,
                        "target": ">= 1 x, 0 forgotten",
                        "met": peer / ours >= 1,
                        "conditions": conditions,
                    }
                )
    return rows
