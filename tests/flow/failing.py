"""Backends that fail on purpose, for the hub under test: real ones with one fault each."""

from __future__ import annotations

from pathlib import Path

from traitlets import Unicode

from daas_hub.backends.base import Checkpoint
from daas_hub.backends.local import LocalBackend
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import Handle, LaunchSpec, Life, Observation


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
