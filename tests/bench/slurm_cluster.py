"""A real SLURM cluster full of jobs, and both sides of the SLURM goals, each in a process of its own on its login host.

Its two nodes say that they have 1,024 cores each (``SlurmdParameters=config_overrides``): jobs of one core do not share
any, which the controller would compute anew for all at each end. A held job is an allocation without a process
(``salloc --no-shell``): the controller and whoever asks it see a running job, and this machine runs nothing for it.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daas_hub.core.naming import new_id
from daas_hub.core.slurm_jobs import comment_of
from tests.bench.peers import python_of
from tests.servers.slurm.daemons import PATH
from tests.servers.slurm.rig import LAB, LAB_GID, PEOPLE, Slurm

HERE = Path(__file__).parent
PARTITION, USER, HUB = "any", "ada", "bench"
LARGE = "CPUs=1024 RealMemory=1024000"
"""What each node has."""
TRAITS: Mapping[str, Mapping[str, Any]] = {
    "peer": {},
    "tuned": {"exec_prefix": "", "poll_interval": 300, "startup_poll_interval": 5.0},
}
WORDS = {"peer": "as installed (sudo, polls every 30 s)", "tuned": "tuned: no sudo, polls every 300 s"}
TICKS = os.sysconf("SC_CLK_TCK")
Found = dict[str, Any]


class Large(Slurm):
    """The rig with nodes on which a thousand jobs run, and with further people (name → uid) who may submit."""

    def __init__(self, people: Mapping[str, int]) -> None:
        super().__init__()
        self.people = people

    def _write(self) -> None:
        super()._write()
        path = self.world.etc / "slurm" / "slurm.conf"
        path.write_text(re.sub(r"CPUs=\d+ RealMemory=\d+", LARGE, path.read_text()))

    def _add_associations(self) -> None:
        super()._add_associations()
        if self.people:
            self._add_entries(self.people, LAB_GID)
            self.run("sacctmgr", "--immediate", "add", "user", ",".join(self.people), f"account={LAB}")


@contextmanager
def cluster(people: Mapping[str, int] | None = None) -> Iterator[Slurm]:
    """One with large nodes."""
    slurm = Large(people or {})
    try:
        yield slurm.start()
    finally:
        slurm.stop()


def hold(slurm: Slurm, count: int, *, user: str = USER, hub_id: str = HUB) -> dict[str, str]:
    """So many running jobs of one account, commented as launches: id → launch."""
    launches = "\n".join(new_id() for _ in range(count))
    words = f"--quiet --no-shell --partition={PARTITION} --mem=1 --comment={comment_of(hub_id, '{}')}"
    slurm.run("xargs", "-P4", "-I{}", "salloc", *words.split(), user=user, given=launches + "\n")
    listed = slurm.run("squeue", "--noheader", f"--user={user}", "--states=RUNNING", "--format=%i %k").splitlines()
    jobs = {job: comment.rpartition(":")[2] for job, comment in (line.split() for line in listed)}
    asked = set(launches.splitlines())
    held = {job: launch for job, launch in jobs.items() if launch in asked}
    if len(held) != count:
        raise RuntimeError(f"{len(held)} of {count} jobs run")
    return held


# ---------------------------------------------------------------- the controller


def parse_rpcs(said: str) -> Counter[str]:
    """How often the controller was asked what since it began, from ``sdiag``: kind of question → number."""
    kinds = said.partition("by message type")[2].partition("by user")[0]
    found = re.findall(r"^\s+([A-Z_0-9]+)\s+\(\s*\d+\)\s+count:(\d+)", kinds, re.MULTILINE)
    return Counter({kind: int(count) for kind, count in found})


def questions(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What was asked between two looks to learn something: submissions, nodes' own messages and the looks are not."""
    kinds = {kind for kind in after if "_INFO" in kind and kind != "REQUEST_STATS_INFO"}
    made = {kind: after[kind] - before.get(kind, 0) for kind in sorted(kinds)}
    return {kind: count for kind, count in made.items() if count}


def rpcs(slurm: Slurm) -> Counter[str]:
    """All kinds, as of now."""
    return parse_rpcs(slurm.run("sdiag"))


def controller_cpu_s(slurm: Slurm) -> float:
    """CPU seconds of the controllers and of munge, who vouches for each question, so far."""
    used = 0
    for program in (*slurm.daemons.controllers, slurm.daemons.munge):
        fields = Path(f"/proc/{program.pid}/stat").read_text().rsplit(")", 1)[1].split()
        used += int(fields[11]) + int(fields[12])
    return used / TICKS


# ---------------------------------------------------------------- the sides


class Side:
    """``ours``, ``peer`` as installed, or ``tuned``: a process on the login host, as root, with its jobs."""

    def __init__(self, slurm: Slurm, name: str) -> None:
        self.slurm, self.name = slurm, name
        environment = {"PATH": PATH, "HOME": "/root"}
        if name == "ours":
            argv = [sys.executable, "-m", "tests.bench.slurm_ours"]
            environment["PYTHONPATH"] = str(HERE.parents[1])
        else:
            argv = [str(python_of("batchspawner")), str(HERE / "slurm_peer.py")]
        self._log = (slurm.world.logs / f"side-{name}.log").open("w+")
        self._process = subprocess.Popen(
            [*slurm.login(), "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *argv],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            cwd=HERE.parents[1],
        )  # fmt: skip

    def begin(self, jobs: Mapping[str, str]) -> Found:
        """Tell it its jobs."""
        if self.name == "ours":
            records = str(self.slurm.root / "records")
            return self.ask("begin", USER, PEOPLE[USER], HUB, jobs, records)
        return self.ask("begin", USER, list(jobs), TRAITS[self.name])

    def ask(self, *words: Any) -> Found:
        """Let it do something: what it says and what it cost, with the controller's part."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before, used = rpcs(self.slurm), controller_cpu_s(self.slurm)
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} ended at {words[0]}: {self._log.read()[-3000:]}")
        asked = questions(before, rpcs(self.slurm))
        spent_s = controller_cpu_s(self.slurm) - used
        return {**json.loads(line), "rpcs": sum(asked.values()), "kinds": asked, "controller_s": spent_s}

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
        self._log.close()


@contextmanager
def sides(slurm: Slurm, *names: str) -> Iterator[dict[str, Side]]:
    """Their processes, not yet told of any job."""
    made: dict[str, Side] = {}
    try:
        for name in names:
            made[name] = Side(slurm, name)
        yield made
    finally:
        for side in made.values():
            side.close()


def per_sweep(said: Found) -> dict[str, float]:
    """The figures of one sweep, from a turn that may have had several."""
    counted = ("cpu_s", "tasks", "rpcs", "controller_s", "wall_s")
    return {key: said[key] / said["sweeps"] for key in counted} | {"loop_gap_s": said["loop_gap_s"]}


def medians(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure."""
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]


def row(
    goal: str, name: str, unit: str, ours: float, peer: float | None, target: str, met: bool, conditions: str
) -> Found:
    """One row of the table; the ratio says how many times less ours is."""
    ratio = peer / ours if peer is not None and ours else None
    return {
        "goal": goal, "name": name, "unit": unit, "ours": ours, "peer": peer, "ratio": ratio, "target": target,
        "met": met, "conditions": conditions,
    }  # fmt: skip
