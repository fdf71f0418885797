"""The cold list of thousands of pods at hub start: CPU and longest stall, against KubeSpawner's reflector.

The peer's list has no setting that changes it. Ours lists rows; who the pods are (their uids) is asked once more, when
the hub first asks for one of them: that costs CPU of its own, which is told beside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.kube_cluster import Found, full, medians, row, same

GOAL = "P7"
PODS, LONG_PODS = 1_000, 5_000
ROUNDS = 5
TIMES, STALL_S = 15.0, 0.025


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster full of pods, both sides in turns. ``long``: 5,000 pods instead of 1,000."""
    return [partial(_run, LONG_PODS if long else PODS)]


def _run(pods: int) -> list[dict[str, Any]]:
    with full(pods) as place:
        runs: dict[str, list[Found]] = {"ours": [], "peer": []}
        for _ in range(ROUNDS):
            for side, found in runs.items():
                found.append(place.end(place.begin(side)))
    agree = same([*runs["ours"], *runs["peer"]])
    ours, peer = medians(runs["ours"]), medians(runs["peer"])
    about = (
        f"{pods:,} simulated pods on a real API server; median of {ROUNDS}, in turns; KubeSpawner 7.1.0; both sides "
        f"found {'the same' if agree else 'OTHER'} pods; the list took {ours['cold_wall_s']:.2f} against "
        f"{peer['cold_wall_s']:.2f} s; of the longest gaps {ours['cold_gap_cpu_s'] * 1e3:.1f} and "
        f"{peer['cold_gap_cpu_s'] * 1e3:.1f} ms were CPU of the loop; uids of all pods, asked once: "
        f"{ours['more_cpu_s']:.3f} s of CPU, longest gap {ours['more_gap_s'] * 1e3:.1f} ms "
        f"({ours['more_gap_cpu_s'] * 1e3:.1f} ms CPU)"
    )
    cpu, stall_s = (ours["cold_cpu_s"], peer["cold_cpu_s"]), ours["cold_gap_s"]
    met = agree and cpu[1] >= TIMES * cpu[0]
    limit = f"<= {STALL_S * 1e3:g} ms"
    return [
        row("P7", "CPU of the cold list", "s", *cpu, f">= {TIMES:g} x", met, about),
        row("P7", "longest stall", "s", stall_s, peer["cold_gap_s"], limit, agree and stall_s <= STALL_S, about),
    ]
