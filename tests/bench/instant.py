"""Servers that cost nothing, for a hub's configuration: a spawner and a backend that answer with one listener's URL.

So the bundle's own work is all that is between the two: profile, account, limits, reservation, volume, states, steps.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jupyterhub.spawner import Spawner

from daas_hub.backends.base import Backend, Checkpoint
from daas_hub.core.capacity import Capacity
from daas_hub.core.logs import LINES
from daas_hub.core.models import Event, Found, Handle, Json, LaunchSpec, Life, Observation
from daas_hub.spawners.spawner import DaasSpawner

LISTENER = "BENCH_LISTENER"
"""The variable that has the URL of who answers for all servers, as ``http://host:port``."""


class InstantSpawner(DaasSpawner):
    """JupyterHub's part of a start, and nothing else; ours by birth, because the hub around it asks for that."""

    async def apply_user_options(self, _spawner: Spawner, user_options: Any) -> None:
        """Nothing is chosen."""

    async def start(self) -> str:
        """It is there."""
        return os.environ[LISTENER]

    async def stop(self, now: bool = False) -> None:
        """It is gone."""

    async def poll(self) -> int | None:
        """It runs."""
        return None


class InstantBackend(Backend):
    """A place where a server is there when it is asked for."""

    name = "instant"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ended: dict[str, asyncio.Event] = {}

    def _end(self, handle: Handle) -> asyncio.Event:
        return self._ended.setdefault(handle["launch_id"], asyncio.Event())

    async def capacity(self) -> Sequence[Capacity]:
        return [Capacity(backend=self.name, as_of=datetime.now(UTC))]

    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        return {mount.volume_id: {"folder": mount.path} for mount in spec.mounts if not mount.known}

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        await checkpoint({"version": 1, "backend": self.name, "launch_id": spec.launch_id, "uid": spec.account.uid})
        return os.environ[LISTENER]

    async def resume(self, handle: Handle) -> str:
        return os.environ[LISTENER]

    async def inspect(self, handle: Handle) -> Observation:
        return Observation(Life.ENDED if self._end(handle).is_set() else Life.RUNNING)

    async def wait_ended(self, handle: Handle) -> Observation:
        await self._end(handle).wait()
        return Observation(Life.ENDED)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        self._end(handle).set()
        return Observation(Life.ENDED)

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        return
        yield

    async def log_tail(self, handle: Handle, lines: int = LINES) -> str | None:
        return None

    async def find(self) -> Sequence[Found]:
        return []

    async def cleanup(self, handle: Handle) -> None:
        self._ended.pop(handle["launch_id"], None)
