"""Our SLURM backend in a process of its own, asked by ``slurm_side.serve`` as the peer is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traitlets.config import Config

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.backends.slurm_end import AGE_S
from daas_hub.core.models import Handle, Life
from daas_hub.core.slurm_launches import Ref

sys.path.insert(0, str(Path(__file__).parent))

from kube_measure import cpu_s
from slurm_side import serve

SWEEPS = 5
"""In one turn: one alone costs too little to be measured well."""


class Ours:
    """One account with a launch for each of its jobs."""

    def __init__(self) -> None:
        self.backend: SlurmBackend
        self.refs: list[Ref] = []
        self.handles: list[Handle] = []
        self.seen: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, user: str, uid: int, hub_id: str, jobs: Mapping[str, str], runtime: str) -> dict[str, Any]:
        """A handle for each job (id → launch), as the ledger has them. Settings are as installed."""
        self.backend = SlurmBackend(config=Config(), hub_id=hub_id, runtime_dir=runtime, helper=["/bin/false"])
        first = Ref("", hub_id, user, uid, uid, "/", "/", tls=False, asked_at=datetime.now(UTC))
        self.refs = [replace(first, launch_id=launch, job_id=int(job)) for job, launch in jobs.items()]
        self.handles = [ref.handle() for ref in self.refs]
        return {"launches": len(self.refs)}

    async def sweep(self) -> dict[str, Any]:
        """Every launch judged, all at once, several times; which of them run. Each time the answer before is old."""
        running = set()
        used_s = wall_s = 0.0
        for _ in range(SWEEPS):
            await asyncio.sleep(AGE_S + 0.01)
            cpu, began = cpu_s(), time.perf_counter()
            seen = await asyncio.gather(*map(self.backend.inspect, self.handles))
            running.add(sum(one.life is Life.RUNNING for one in seen))
            used_s, wall_s = used_s + cpu_s() - cpu, wall_s + time.perf_counter() - began
        return {"running": min(running), "sweeps": SWEEPS, "cpu_s": used_s, "wall_s": wall_s}

    async def watch(self) -> dict[str, Any]:
        """Begin to wait for the end of each, as the hub's watchers do."""

        async def one(ref: Ref) -> None:
            await self.backend.wait_ended(ref.handle())
            self.seen[str(ref.job_id)] = time.time()

        self._tasks = [asyncio.create_task(one(ref)) for ref in self.refs]
        return {"every_s": self.backend.poll_interval_s}

    async def idle(self, seconds: float) -> dict[str, Any]:
        """Let it do what it does by itself."""
        await asyncio.sleep(seconds)
        return {"seen": self.seen}


if __name__ == "__main__":
    ours = Ours()
    asyncio.run(serve({"begin": ours.begin, "sweep": ours.sweep, "watch": ours.watch, "idle": ours.idle}))
