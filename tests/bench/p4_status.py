"""What it costs to know the state of all running SLURM jobs, and how soon a change is seen, against batchspawner 1.3.0.

A sweep is the question of a whole hub about all of its servers: ours judges every launch by one shared look, the peer
asks by the ``poll`` of each of its spawners. A real controller; jobs are allocations without a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.bench.slurm_cluster import WORDS, Found, Side, cluster, hold, medians, per_sweep, percentile, row, sides
from tests.servers.slurm.rig import Slurm

GOAL = "P4"
JOBS = (50, 500, 1_000)
ROUNDS = 5
CPU_TIMES = {"peer": 300.0, "tuned": 100.0}
RPC_TIMES, RPCS_OF = 500.0, 1_000
"""The targets are for 1,000 jobs; for fewer they are as many times smaller."""
SEEN_S = 5.0
CHANGED = 100
EVERY_S = {"ours": 2.0, "peer": 30.0, "tuned": 300.0}
"""How often each asks by itself."""
SLACK_S = 6.0
"""How much longer than its interval a side is waited for."""


def parts(long: bool = False) -> list[Callable[[], list[Found]]]:
    """A part for each number of jobs; changes are looked for among the most."""
    return [partial(measure, jobs, ROUNDS, CHANGED if jobs == max(JOBS) else 0) for jobs in JOBS]


def measure(jobs: int, rounds: int, changed: int) -> list[Found]:
    """A cluster, so many jobs, the sides in turns; then so many of the jobs end."""
    with cluster() as slurm, sides(slurm, "ours", "peer", "tuned") as all_sides:
        held = hold(slurm, jobs)
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in all_sides}
        kinds: dict[str, Mapping[str, int]] = {}
        for side in all_sides.values():
            side.begin(held)
        for _ in range(rounds):
            for name, side in all_sides.items():
                said = side.ask("sweep")
                # The oracle: all of them run, and each side must know it.
                assert said["running"] == jobs, (name, said)
                turns[name].append(per_sweep(said))
                kinds[name] = said["kinds"]
        idle_s = all_sides["ours"].ask("idle", 1)["cpu_s"]
        seen = _changes(slurm, all_sides, list(held), changed) if changed else {}
    found = {name: medians(some) for name, some in turns.items()}
    asked = ", ".join(f"{name} {' '.join(sorted(said))}" for name, said in kinds.items() if name != "tuned")
    told = f"kinds of RPCs: {asked}; a side idle for 1 s: {idle_s * 1e3:.1f} ms of CPU"
    return sweep_rows(jobs, rounds, found, told) + seen_rows(jobs, seen)


def _changes(slurm: Slurm, all_sides: Mapping[str, Side], held: list[str], changed: int) -> dict[str, list[float]]:
    """Seconds from the end of each of some jobs until a side notices it; first ours, then the peer, each alone."""
    seen = {}
    gone: set[str] = set()
    for number, name in enumerate(("ours", "peer")):
        # Spread over all of them: the peer polls one after the other.
        side, ended = all_sides[name], held[number :: len(held) // changed][:changed]
        gone |= set(ended)
        every_s = side.ask("watch")["every_s"]
        side.ask("idle", every_s + 1)
        slurm.run("scancel", *ended)
        at = time.time()
        told: dict[str, float] = side.ask("idle", every_s + SLACK_S)["seen"]
        # What ended before belongs to the side before.
        mine = {job: told[job] - at for job in ended if job in told}
        assert len(mine) == changed, f"{name} saw {len(mine)} of {changed} ends within {every_s + SLACK_S:g} s"
        assert set(told) <= gone, f"{name} holds running jobs for ended"
        seen[name] = [max(0.0, late) for late in mine.values()]
        side.close()
    return seen


def sweep_rows(jobs: int, rounds: int, found: Mapping[str, Mapping[str, float]], told: str) -> list[Found]:
    """CPU, questions and tasks of a sweep, against each kind of peer."""
    ours, share, rows = found["ours"], jobs / RPCS_OF, []
    for name, words in WORDS.items():
        peer, times = found[name], CPU_TIMES[name] * share
        about = (
            f"{jobs:,} running jobs, allocations without a process; median of {rounds}, in turns; batchspawner 1.3.0 "
            f"{words}; CPU of the asking process and its children; controllers and munge besides: ours "
            f"{ours['controller_s']:.4f} s, peer {peer['controller_s']:.4f} s; wall {ours['wall_s']:.3f} and "
            f"{peer['wall_s']:.2f} s; longest gap of the loop {ours['loop_gap_s'] * 1e3:.0f} and "
            f"{peer['loop_gap_s'] * 1e3:.0f} ms; all sides found all jobs running; {told}"
        )
        minute = {side: found[side]["cpu_s"] * 60 / EVERY_S[side] for side in ("ours", name)}
        about += f"; CPU a minute at their own intervals: {minute['ours']:.2f} and {minute[name]:.2f} s (arithmetic)"
        kind = words.partition(" (")[0].partition(":")[0]
        cpu, asked, tasks = ((ours[key], peer[key]) for key in ("cpu_s", "rpcs", "tasks"))
        least = RPC_TIMES * share
        rows += [
            row(GOAL, f"CPU per sweep of {jobs:,}, peer {kind}", "s", *cpu, f">= {times:g} x",
                cpu[1] >= times * cpu[0], about),
            row(GOAL, f"controller RPCs per sweep of {jobs:,}, peer {kind}", "RPCs", *asked, f">= {least:g} x",
                asked[1] >= least * asked[0], about),
            row(GOAL, f"processes and threads per sweep of {jobs:,}, peer {kind}", "tasks", *tasks, f">= {least:g} x",
                tasks[1] >= least * tasks[0], about),
        ]  # fmt: skip
    return rows


def seen_rows(jobs: int, seen: Mapping[str, list[float]]) -> list[Found]:
    """How late an end is noticed."""
    if not seen:
        return []
    ours, peer = (percentile(seen[name], 0.99) for name in ("ours", "peer"))
    about = (
        f"{len(seen['ours'])} of {jobs:,} jobs cancelled at once, counted from when the controller had taken that; "
        f"each side at its default interval; means {sum(seen['ours']) / len(seen['ours']):.2f} and "
        f"{sum(seen['peer']) / len(seen['peer']):.2f} s; the tuned peer, who polls every 300 s, is not waited for"
    )
    return [
        row(GOAL, f"an end is seen, p99, {jobs:,} jobs", "s", ours, peer, f"<= {SEEN_S:g} s", ours <= SEEN_S, about)
    ]
