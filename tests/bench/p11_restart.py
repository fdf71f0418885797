"""A hub that is restarted while SLURM servers run: what the spawner adds to it, against batchspawner 1.3.0.

Each side's hub is compared with the same hub whose spawner does nothing. Time, CPU (children included) and questions
to the controller count from the new process's start until it holds every server for running.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.bench.driven_hub import Server
from tests.bench.slurm_cluster import WORDS, Found, cluster, medians, questions, row, rpcs
from tests.bench.slurm_hubs import Hub, hubs, uids_of
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

GOAL = "P11"
SERVERS = (50, 500, 1_000)
PEOPLE = 50
TURNS = 3
TIMES, ADDED_S, TOTAL = 100.0, 0.12, 1.1
"""Seconds, and times fewer RPCs, are for 1,000 servers; both are as many times less for fewer."""
FLOOR_S = 0.01
"""Less than that is not measured: what is added counts as that at least."""


def parts(long: bool = False) -> list[Callable[[], list[Found]]]:
    """A part for each number of servers."""
    return [partial(measure, servers // PEOPLE, TURNS) for servers in SERVERS]


def measure(each: int, turns: int, people: int = PEOPLE) -> list[Found]:
    """A cluster, five hubs beside it, restarted in turns."""
    uids = uids_of(people)
    with cluster(uids) as slurm:
        return asyncio.run(_measure(slurm, uids, each, turns))


async def _measure(slurm: Slurm, uids: Mapping[str, int], each: int, turns: int) -> list[Found]:
    found: dict[str, list[dict[str, float]]] = {}
    async with hubs(slurm, uids, each) as (sides, servers):
        for turn in range(turns + 1):
            for name, hub in sides.items():
                restarted = await _restart(slurm, hub, servers)
                # The first one writes what only a first one has to.
                if turn:
                    found.setdefault(name, []).append(restarted)
    return restart_rows(len(uids) * each, turns, {name: medians(some) for name, some in found.items()})


async def _restart(slurm: Slurm, side: Hub, servers: set[Server]) -> dict[str, float]:
    """Start the hub again and end it as an upgrade does; what that took. Each server must be known again."""
    hub, driven = side.driven.hub, side.driven
    before = await asyncio.to_thread(rpcs, slurm)
    began = time.monotonic()
    await hub.start(within_s=600)

    async def all_there() -> bool:
        return len(await driven.running()) == len(servers)

    await until(all_there, within_s=120, every_s=0.2, what=f"{side.name}: all servers are known again")
    wall_s, cpu_s = time.monotonic() - began, side.cpu_s()
    asked = questions(before, await asyncio.to_thread(rpcs, slurm))
    assert await driven.running() == servers
    await driven.close()
    await hub.stop()
    return {"wall_s": wall_s, "cpu_s": cpu_s, "rpcs": float(sum(asked.values()))}


def restart_rows(servers: int, turns: int, found: Mapping[str, Mapping[str, float]]) -> list[Found]:
    """What each spawner adds to its own hub without it."""
    rows = []
    ours = max(found["ours"]["cpu_s"] - found["bundle"]["cpu_s"], FLOOR_S)
    most_s, fewer = (target * servers / SERVERS[-1] for target in (ADDED_S, TIMES))
    told = ", ".join(
        f"{name} {said['wall_s']:.1f} s, {said['cpu_s']:.2f} s of CPU, {said['rpcs']:.0f} RPCs"
        for name, said in found.items()
    )
    for name, words in WORDS.items():
        peer = max(found[name]["cpu_s"] - found["noop"]["cpu_s"], FLOOR_S)
        kind = words.partition(" (")[0].partition(":")[0]
        about = (
            f"{servers:,} servers, allocations without a process; median of {turns} restarts (SIGTERM), in turns; "
            f"batchspawner 1.3.0 {words}; all servers are known again, on every side; until then: {told}; noop and "
            "bundle are the peer's and our hub with a spawner that does nothing"
        )
        asked = found["ours"]["rpcs"], found[name]["rpcs"]
        limit = f">= {TIMES:g} x, <= {most_s:g} s"
        met = peer >= TIMES * ours and ours <= max(most_s, FLOOR_S)
        rows += [
            row(GOAL, f"CPU added at a restart with {servers:,}, peer {kind}", "s", ours, peer, limit, met, about),
            row(GOAL, f"controller RPCs at a restart with {servers:,}, peer {kind}", "RPCs", *asked, f">= {fewer:g} x",
                asked[1] >= fewer * asked[0], about),
        ]  # fmt: skip
    wall = found["ours"]["wall_s"], found["bundle"]["wall_s"]
    rows.append(
        row(GOAL, f"time of a restart with {servers:,}, peer: our hub, no-op spawner", "s", *wall, f"<= {TOTAL:g} x",
            wall[0] <= TOTAL * wall[1], rows[0]["conditions"])
    )  # fmt: skip
    return rows
