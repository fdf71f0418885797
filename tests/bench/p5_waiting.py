"""A hundred people wait in SLURM's queue: what that asks of the controller, and how soon each start is seen.

Jobs are held for a minute, then released one after another. Ours are whole starts whose servers call back; the peer's
are batchspawner 1.3.0's own ``start`` up to the moment when it has seen its job run. One side after the other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench.kube_measure import Gaps, cpu_s
from tests.bench.slurm_cluster import (
    PARTITION,
    TRAITS,
    USER,
    WORDS,
    Found,
    Side,
    cluster,
    controller_cpu_s,
    percentile,
    questions,
    row,
    rpcs,
    sides,
)  # fmt: skip
from tests.bench.slurm_starts import starts
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

GOAL = "P5"
PEOPLE, PENDING_S, EVERY_S = 100, 60.0, 0.2
"""How many, for how long, and how many seconds between two releases."""
TIMES = {"peer": 200.0, "tuned": 10.0}
"""The tuned peer has no target of the goal's: it looks ten times more seldom, and sees starts as much later."""
LATE_S = 1.0
SCRIPT = """#!/bin/sh
#SBATCH --hold --mem=1 --partition={partition} --output=/dev/null --chdir=/
{stamp}
exec sleep 3600
"""


def parts(long: bool = False) -> list[Callable[[], list[Found]]]:
    """One part: three times as many people, one side after the other."""
    return [partial(measure, PEOPLE, PENDING_S, EVERY_S)]


def measure(people: int, pending_s: float, every_s: float) -> list[Found]:
    """A cluster; each side's people wait, then their jobs start."""
    with cluster() as slurm:
        folder = slurm.root / "started"
        folder.mkdir()
        folder.chmod(0o1777)
        stamp = f"date +%s.%N > {folder}/$SLURM_JOB_ID"
        found = {"ours": asyncio.run(_ours(slurm, people, pending_s, every_s, stamp))}
        slurm.run("scancel", f"--user={USER}")
        for name in ("peer", "tuned"):
            found[name] = _peer(slurm, name, people, pending_s, every_s, stamp)
            slurm.run("scancel", f"--user={USER}")
        return waiting_rows(people, pending_s, found, {name: _late(folder, said) for name, said in found.items()})


def _release(slurm: Slurm, jobs: Sequence[str], every_s: float) -> None:
    """Let them start, one after another; blocks."""
    for job in jobs:
        slurm.run("scontrol", "release", job)
        time.sleep(every_s)


def _late(folder: Path, said: Found) -> list[float]:
    """Seconds from each job's start, by its own clock, until it was known; what is known before counts as at once."""
    told: Mapping[str, float] = said["told"]
    return [max(0.0, at - float((folder / job).read_text())) for job, at in told.items()]


async def _ours(slurm: Slurm, people: int, pending_s: float, every_s: float, stamp: str) -> Found:
    async with starts(slurm, req_options="--hold", req_prologue=stamp) as place:
        begun = [place.begin() for _ in range(people)]
        await until(lambda: len(place.jobs()) == people, within_s=120, what="all are submitted", every_s=0.1)
        gaps = Gaps()
        before, used, theirs = await asyncio.to_thread(rpcs, slurm), cpu_s(), controller_cpu_s(slurm)
        await asyncio.sleep(pending_s)
        spent = {"cpu_s": cpu_s() - used, "controller_s": controller_cpu_s(slurm) - theirs, **gaps.found("loop")}
        asked = questions(before, await asyncio.to_thread(rpcs, slurm))
        await asyncio.to_thread(_release, slurm, place.jobs(), every_s)
        await asyncio.wait_for(asyncio.gather(*begun), 120)
        return {**spent, "rpcs": sum(asked.values()), "kinds": asked, "told": dict(place.told)}


def _peer(slurm: Slurm, name: str, people: int, pending_s: float, every_s: float, stamp: str) -> Found:
    with sides(slurm, name) as made:
        side: Side = made[name]
        jobs = side.ask("submit", USER, people, TRAITS[name], SCRIPT.format(partition=PARTITION, stamp=stamp))["jobs"]
        spent = side.ask("idle", pending_s)
        _release(slurm, jobs, every_s)
        deadline = time.monotonic() + 120
        while not all((told := side.ask("told")["told"]).values()):
            assert time.monotonic() < deadline, f"{name} has not seen {list(told.values()).count(0)} starts"
            time.sleep(0.5)
        return {**spent, "told": told}


def waiting_rows(
    people: int, pending_s: float, found: Mapping[str, Found], late: Mapping[str, Sequence[float]]
) -> list[Found]:
    """Calls and questions while all wait, and how late starts are known."""
    ours, rows = found["ours"], []
    for name, words in WORDS.items():
        peer, times = found[name], TIMES[name]
        means = [sum(late[side]) / len(late[side]) for side in ("ours", name)]
        about = (
            f"{people} people wait for {pending_s:g} s, then a job is released every {EVERY_S:g} s; one turn; "
            f"batchspawner 1.3.0 {words}, a look every {TRAITS[name].get('startup_poll_interval', 0.5):g} s; ours as "
            f"installed; while all wait CPU {ours['cpu_s']:.2f} and {peer['cpu_s']:.2f} s, of controllers and munge "
            f"{ours['controller_s']:.2f} and {peer['controller_s']:.2f} s, longest gap of the loop "
            f"{ours['loop_gap_s'] * 1e3:.0f} and {peer['loop_gap_s'] * 1e3:.0f} ms; starts known after "
            f"{means[0]:.2f} and {means[1]:.2f} s on average, by the clock of the job's script; all were seen"
        )
        kind = words.partition(" (")[0].partition(":")[0]
        asked, calls = (ours["rpcs"], peer["rpcs"]), (squeues(ours["kinds"]), squeues(peer["kinds"]))
        p95 = percentile(late["ours"], 0.95), percentile(late[name], 0.95)
        rows += [
            row(GOAL, f"squeue calls while {people} wait, peer {kind}", "calls", *calls, f">= {times:g} x",
                calls[1] >= times * calls[0], about),
            row(GOAL, f"controller RPCs while {people} wait, peer {kind}", "RPCs", *asked, f">= {times:g} x",
                asked[1] >= times * asked[0], about),
            row(GOAL, f"a start is known, p95, peer {kind}", "s", *p95, f"<= {LATE_S:g} s", p95[0] <= LATE_S, about),
        ]  # fmt: skip
    return rows


def squeues(kinds: Mapping[str, int]) -> int:
    """How many calls of squeue these questions were: each asks once for jobs, whatever else it asks."""
    return sum(count for kind, count in kinds.items() if kind.startswith("REQUEST_JOB_"))
