"""One pass of the culler while nothing is due: what it costs the hub, against jupyterhub-idle-culler 2.0.0."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from daas_hub.services.culler import Culler
from daas_hub.services.settings import Environment
from tests.bench.many_servers import ManyServers
from tests.bench.peers import python_of

GOAL = "P1"
ROUNDS = 5
TUNED_PAGE = 200
"""The hub's own maximum: fewest requests that the peer can get along with."""
FLOOR_S = 1e-3
"""A pass that costs the hub less counts as this much: below it a ratio says nothing."""


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """1,000 running servers; with ``long`` 5,000, too. As many users again have none."""
    return [partial(_run, running) for running in ((1000, 5000) if long else (1000,))]


def _run(running: int) -> list[dict[str, Any]]:
    root = Path(tempfile.mkdtemp(prefix="daas-bench-p1-"))
    try:
        return asyncio.run(_measure(root, running))
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _measure(root: Path, running: int) -> list[dict[str, Any]]:
    site = ManyServers(root, registered=2 * running, running=running)
    try:
        await site.start()
        culler = Culler(
            Environment(
                api_url=f"{site.hub.hub_url}/hub/api",
                api_token=site.token,
                ledger_url=site.ledger_url,
                config={"Culler": {"rules": [{"name": "all", "idle_after_s": 600, "max_age_s": 86400}]}},
            )
        )
        sides: dict[str, list[dict[str, float]]] = {"ours": [], "peer": [], "tuned": [], "idle": []}
        for _ in range(ROUNDS):
            sides["ours"].append(await site.measured(lambda: _our_pass(culler, running)))
            sides["peer"].append(await site.measured(lambda: _peer_pass(site, 0)))
            sides["tuned"].append(await site.measured(lambda: _peer_pass(site, TUNED_PAGE)))
            sides["idle"].append(await site.measured(_nothing))
        # The oracle: nothing was due, so neither side may have stopped anything.
        left = await site.ready()
        assert left == running, f"{running - left} servers were stopped"
        rows_left = await asyncio.to_thread(lambda: len(culler.ledger.launches(limit=10**6)))
        assert rows_left == running
        await culler.finish()
        culler.ledger.close()
    finally:
        await site.stop()
    return _rows(running, {side: _medians(runs) for side, runs in sides.items()})


async def _our_pass(culler: Culler, running: int) -> dict[str, float]:
    """A whole pass: the ledger is read, the heap is asked. It knows every server and finds none due."""
    cpu = time.process_time()
    culler._read_again = 0.0
    await culler.turn()
    own = time.process_time() - cpu
    assert len(culler._watched) == running
    assert not culler._tasks
    return {"own_cpu_s": own}


async def _peer_pass(site: ManyServers, page_size: int) -> dict[str, float]:
    argv = [str(python_of("idle-culler")), str(Path(__file__).with_name("idle_culler_peer.py"))]
    argv += [f"{site.hub.hub_url}/hub/api", site.token, str(page_size)]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, check=True, env={})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


async def _nothing() -> dict[str, float]:
    """What the hub does by itself in a second."""
    await asyncio.sleep(1)
    return {"own_cpu_s": 0.0}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _rows(running: int, sides: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    ours = sides["ours"]
    rows = []
    for side, words in (("peer", "as installed"), ("tuned", f"tuned: pages of {TUNED_PAGE}")):
        peer = sides[side]
        conditions = (
            f"{running} running of {2 * running} registered, nothing due; median of {ROUNDS}, in turns; no-op spawner "
            f"and proxy; peer jupyterhub-idle-culler 2.0.0 {words}, wall {peer['wall_s']:.2f} s, own CPU "
            f"{peer['own_cpu_s']:.2f} s; ours wall {ours['wall_s']:.3f} s, own CPU {ours['own_cpu_s']:.3f} s; the hub "
            f"idle for 1 s: {sides['idle']['hub_cpu_s'] * 1e3:.2f} ms; ratio counts at least {FLOOR_S * 1e3:g} ms"
        )
        ratio = peer["hub_cpu_s"] / max(ours["hub_cpu_s"], FLOOR_S)
        met = ratio >= 100 and ours["hub_cpu_s"] <= 0.04
        common = {"goal": GOAL, "conditions": conditions}
        rows.append(
            {
                **common,
                "name": f"hub CPU per pass, {running} running, peer {words}",
                "unit": "s",
                "ours": ours["hub_cpu_s"],
                "peer": peer["hub_cpu_s"],
                "ratio": ratio,
                "target": ">= 100, <= 0.04 s",
                "met": met,
            }
        )
        rows.append(
            {
                **common,
                "name": f"requests to the hub per pass, {running} running, peer {words}",
                "unit": "requests",
                "ours": ours["requests"],
                "peer": peer["requests"],
                "ratio": peer["requests"] / max(ours["requests"], 1),
                "target": "<= 2 requests",
                "met": ours["requests"] <= 2,
            }
        )
    return rows
