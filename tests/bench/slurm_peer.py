"""batchspawner's own SlurmSpawner, unmodified, in the peer's environment; asked by ``slurm_side.serve``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from batchspawner import SlurmSpawner
from jupyterhub import orm
from jupyterhub.objects import Hub
from jupyterhub.user import User
from jupyterhub.utils import wait_for_http_server
from slurm_side import serve
from traitlets.config import Config

AT_ONCE = 8
"""Polls at the same time: a hub's are spread over its interval."""


class Told(SlurmSpawner):
    """Says when it learnt that its job runs, and has its port by then; everything else is the peer's own."""

    told = 0.0

    def state_gethost(self) -> str:
        """What ``start`` asks as soon as it has seen its job run."""
        self.told = self.told or time.time()
        # As if the server had reported it meanwhile: else ``start`` waits once more.
        self.port = 1
        return str(super().state_gethost())


class Peer:
    """One account with a spawner for each of its jobs."""

    def __init__(self) -> None:
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        self.spawners: dict[str, SlurmSpawner] = {}
        self.seen: dict[str, float] = {}
        self.starts: list[asyncio.Task[Any]] = []

    async def begin(
        self, user: str, jobs: list[str], traits: Mapping[str, Any], kind: type[SlurmSpawner] = SlurmSpawner
    ) -> dict[str, Any]:
        """A spawner for each job, as a hub has them after its start."""
        logging.getLogger().setLevel(logging.WARNING)
        config = Config()
        for name, value in traits.items():
            config.SlurmSpawner[name] = value
        person = orm.User(name=user)
        self.db.add(person)
        for job in jobs:
            self.db.add(orm.Spawner(user=person, name=f"s{job}"))
        self.db.commit()
        wrapped = User(person, {"config": config, "hub": Hub(), "cookie_options": {}})
        for job in jobs:
            self.spawners[job] = wrapped._new_spawner(f"s{job}", spawner_class=kind)
            self.spawners[job].load_state({"job_id": job})
        return {"spawners": len(self.spawners)}

    async def sweep(self) -> dict[str, Any]:
        """Each job asked about once, by the spawner's own poll; which of them run."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(spawner: SlurmSpawner) -> bool:
            async with turn:
                return await spawner.poll() is None

        said = await asyncio.gather(*(one(spawner) for spawner in self.spawners.values()))
        return {"running": sum(said), "sweeps": 1}

    async def watch(self) -> dict[str, Any]:
        """Begin the hub's own polling, as evenly spread over its interval as can be."""
        loop = asyncio.get_running_loop()
        for number, (job, spawner) in enumerate(self.spawners.items()):
            spawner.add_poll_callback(lambda job=job: self.seen.setdefault(job, time.time()))
            loop.call_later(number * spawner.poll_interval / len(self.spawners), spawner.start_polling)
        return {"every_s": next(iter(self.spawners.values())).poll_interval}

    async def submit(self, user: str, count: int, traits: Mapping[str, Any], script: str) -> dict[str, Any]:
        """Begin so many starts; the jobs' ids, once all are submitted. ``script`` replaces the one as installed."""
        await self.begin(user, [str(number) for number in range(count)], {**traits, "batch_script": script}, Told)
        for spawner in self.spawners.values():
            spawner.clear_state()
        self.starts = [asyncio.create_task(spawner.start()) for spawner in self.spawners.values()]
        while not all(spawner.job_id for spawner in self.spawners.values()):
            for start in self.starts:
                if start.done():
                    start.result()
            await asyncio.sleep(0.1)
        return {"jobs": [spawner.job_id for spawner in self.spawners.values()]}

    async def usable(self, user: str, traits: Mapping[str, Any], script: str, url: str, number: int) -> dict[str, Any]:
        """One start, and the hub's own wait until the server answers at ``url``; seconds since it was asked for."""
        if not self.spawners:
            await self.begin(user, [str(one) for one in range(number + 100)], traits, Told)
        spawner = self.spawners[str(number)]
        spawner.clear_state()
        spawner.batch_script = script
        began = time.perf_counter()
        await spawner.start()
        await wait_for_http_server(url, timeout=60)
        return {"usable_s": time.perf_counter() - began, "job": spawner.job_id}

    async def told(self) -> dict[str, Any]:
        """When each start learnt that its job runs; 0: not yet."""
        return {"told": {spawner.job_id: spawner.told for spawner in self.spawners.values()}}

    async def idle(self, seconds: float) -> dict[str, Any]:
        """Let it do what it does by itself."""
        await asyncio.sleep(seconds)
        return {"seen": self.seen}


peer = Peer()
asyncio.run(
    serve({word: getattr(peer, word) for word in ("begin", "sweep", "watch", "submit", "told", "usable", "idle")})
)
