"""The idle watch of thousands of pods: CPU, stalls and memory, against KubeSpawner's reflector.

All sides watch the same cluster in the same minutes, each in a process of its own. CPU is measured while nothing else
runs in the process, stalls after that. The tuned peer restarts its watch every 600 s, and each restart lists
everything, so only ``long`` is long enough to have one in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.kube_cluster import Found, full, medians, row, same

GOAL = "P6"
PODS, LONG_PODS = 1_000, 5_000
IDLE_S, LONG_IDLE_S = 60.0, 660.0
GAP_S = 40.0
ROUNDS, LONG_ROUNDS = 3, 1
TUNED = "600"
TIMES, TUNED_TIMES, MEMORY_TIMES = 30.0, 3.0, 10.0
STALL_S, MEMORY_BYTES = 0.05, 3 * 1024
FLOOR = 1e-4
"""A share of a core; ours counts as that at least."""


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster full of pods. ``long``: 5,000 instead of 1,000, for 11 minutes, and the tuned peer, too."""
    sides = ("ours", "peer", TUNED) if long else ("ours", "peer")
    return [partial(_run, sides, *((LONG_PODS, LONG_IDLE_S, LONG_ROUNDS) if long else (PODS, IDLE_S, ROUNDS)))]


def _run(sides: tuple[str, ...], pods: int, idle_s: float, rounds: int) -> list[dict[str, Any]]:
    runs: dict[str, list[Found]] = {side: [] for side in sides}
    with full(pods) as place:
        for _ in range(rounds):
            begun = [place.begin(side, idle_s=idle_s, gap_s=GAP_S) for side in sides]
            try:
                for side, process in zip(sides, begun, strict=True):
                    runs[side].append(place.end(process))
            finally:
                for process in begun:
                    process.kill()
    agree = same([found for some in runs.values() for found in some])
    found = {side: medians(some) for side, some in runs.items()}
    ours = found["ours"]
    rows = []
    for side, times in (("peer", TIMES), (TUNED, TUNED_TIMES)):
        if side in found:
            rows += _against(side, times, ours, found[side], pods, f"idle for {idle_s:g} s, {rounds} x; ", agree)
    return rows


def _against(
    side: str, times: float, ours: Found, peer: Found, pods: int, when: str, agree: bool
) -> list[dict[str, Any]]:
    words = "as installed" if side == "peer" else f"tuned: {side} s"
    about = (
        f"{pods:,} simulated pods on a real API server; {when}all sides at once; KubeSpawner 7.1.0 {words}; all sides "
        f"found {'the same' if agree else 'OTHER'} pods; of the longest gaps {ours['idle_gap_cpu_s'] * 1e3:.1f} and "
        f"{peer['idle_gap_cpu_s'] * 1e3:.1f} ms were CPU of the loop"
    )
    cpu = ours["idle_cpu"], peer["idle_cpu"]
    # Ratios against next to nothing would say nothing.
    enough = agree and cpu[1] >= times * max(cpu[0], FLOOR)
    first = row("P6", f"CPU while idle, {words}", "cores", *cpu, f">= {times:g} x", enough, about)
    rows = [{**first, "ratio": cpu[1] / max(cpu[0], FLOOR)}]
    if side == "peer":
        memory = ours["rss_bytes"] / pods, peer["rss_bytes"] / pods
        small = memory[0] <= MEMORY_BYTES and memory[1] >= MEMORY_TIMES * memory[0]
        target = f"<= {MEMORY_BYTES} and >= {MEMORY_TIMES:g} x"
        stall = ours["idle_gap_s"], peer["idle_gap_s"]
        limit = f"<= {STALL_S * 1e3:g} ms"
        rows += [
            row("P6", "memory per pod", "bytes", *memory, target, agree and small, about),
            row("P6", "longest stall while idle", "s", *stall, limit, agree and stall[0] <= STALL_S, about),
        ]
    return rows
