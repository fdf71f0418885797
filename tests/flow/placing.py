"""Two places on one machine, for the hub under test: real local backends; how full they are says a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from traitlets import Unicode

from daas_hub.backends.base import Checkpoint
from daas_hub.backends.local import LocalBackend
from daas_hub.core.capacity import Capacity, Room
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import LaunchSpec
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program

ROOM = 16.0
"""Cores that each of them has."""


class FilledBackend(LocalBackend):
    """Servers really run here; of what is free it tells what the file ``room`` says."""

    room = Unicode(
        help="Path of a JSON object: free_cores, age_s, starts_in_s, total_cores; broken: no server starts here."
    ).tag(config=True)

    async def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await asyncio.to_thread(Path(self.room).read_text))
        return told

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        if (await self._told()).get("broken"):
            raise StartFailed("This place is broken.", permanent=True)
        return await super().start(spec, checkpoint)

    async def capacity(self) -> Sequence[Capacity]:
        (look,) = await super().capacity()
        told, now = await self._told(), datetime.now(UTC)
        starts_in_s = told.get("starts_in_s")
        return [
            replace(
                look,
                free_cores=told.get("free_cores", ROOM),
                free_memory_bytes=2**40,
                as_of=now - timedelta(seconds=told.get("age_s", 0)),
                starts_at=None if starts_in_s is None else now + timedelta(seconds=starts_in_s),
                total=Room(told.get("total_cores", ROOM), 2**40, {"": 0}),
                # As a place with a queue of its own would say it.
                holds_back=True,
            )
        ]


class FirstBackend(FilledBackend):
    """Named first in the hub's settings."""

    name = "first"


class SecondBackend(FilledBackend):
    """Named second."""

    name = "second"


class NarrowBackend(LocalBackend):
    """This machine once more, for bounds of its own."""

    name = "narrow"


MORE = """
c.DaasHub.backends = {{
    "first": "tests.flow.placing.FirstBackend",
    "second": "tests.flow.placing.SecondBackend",
}}
c.FirstBackend.room, c.SecondBackend.room = {first!r}, {second!r}
c.FirstBackend.runtime_dir, c.SecondBackend.runtime_dir = {run!r} + "/first", {run!r} + "/second"
c.Reconciler.every_s = 3600
"""


def two_places(**tiny: object) -> Site:
    """A site that is not started yet, with tiny servers, both places with room for all."""
    site = Site(cmd=list(program(reachable_python(), **tiny)))
    files = {name: str(site.state / name) for name in ("first", "second")}
    site.more = MORE.format(**files, run=str(site.run))
    fill(site)
    return site


def fill(site: Site, first: dict[str, float] | None = None, second: dict[str, float] | None = None) -> None:
    """What each place will say of itself; by default that it has room for all."""
    for name, told in (("first", first), ("second", second)):
        Path(site.state / name).write_text(json.dumps(told or {}))
