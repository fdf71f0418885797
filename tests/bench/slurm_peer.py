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
from slurm_side import serve
from traitlets.config import Config

AT_ONCE = 8
"""Polls at the same time: a hub's are spread over its interval."""


class Peer:
    """One account with a spawner for each of its jobs."""

    def __init__(self) -> None:
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        self.spawners: dict[str, SlurmSpawner] = {}
        self.seen: dict[str, float] = {}

    async def begin(self, user: str, jobs: list[str], traits: Mapping[str, Any]) -> dict[str, Any]:
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
            self.spawners[job] = wrapped._new_spawner(f"s{job}", spawner_class=SlurmSpawner)
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

    async def idle(self, seconds: float) -> dict[str, Any]:
        """Let it do what it does by itself."""
        await asyncio.sleep(seconds)
        return {"seen": self.seen}


peer = Peer()
asyncio.run(serve({"begin": peer.begin, "sweep": peer.sweep, "watch": peer.watch, "idle": peer.idle}))
