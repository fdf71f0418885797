"""Backends that fail on purpose, for the hub under test: real ones with one fault each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from traitlets import Unicode

from daas_hub.backends.base import Checkpoint
from daas_hub.backends.local import LocalBackend
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Handle, Json, LaunchSpec, Life, Observation
from tests.faults.small_disk import SmallDisk


class BrokenBackend(LocalBackend):
    """Starts a real server, says where it is, and then fails: the next candidate must find nothing of it."""

    name = "broken"

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        await super().start(spec, checkpoint)
        raise StartFailed("This place is broken.", permanent=True)


class StubbornBackend(LocalBackend):
    """Cannot stop anything while the file ``flag`` exists."""

    flag = Unicode(help="Path of the file.").tag(config=True)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        if Path(self.flag).exists():
            return Observation(Life.UNKNOWN, reason="this place does not answer")
        return await super().stop(handle, within_s=within_s)


class DiskFillingBackend(LocalBackend):
    """Fills the disk on which the file ``flag`` lies, at the moment that it names: ``prepare`` or ``checkpoint``."""

    flag = Unicode(help="Path of the file.").tag(config=True)

    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        made = await super().prepare(spec)
        await asyncio.to_thread(self._fill_at, "prepare")
        return made

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        async def after_filling(handle: Handle) -> None:
            await asyncio.to_thread(self._fill_at, "checkpoint")
            await checkpoint(handle)

        return await super().start(spec, after_filling)

    def _fill_at(self, moment: str) -> None:
        flag = Path(self.flag)
        if flag.exists() and flag.read_text() == moment:
            SmallDisk(flag.parent).fill()
