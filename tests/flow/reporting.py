"""A backend whose servers tell their port themselves, as jobs of a batch cluster do: real processes of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from traitlets import Unicode

from daas_hub.backends.base import Checkpoint
from daas_hub.backends.local import LocalBackend
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Handle, LaunchSpec


class ReportingBackend(LocalBackend):
    """Takes one port for each launch."""

    unsent = Unicode(help="Path of a file: while it is there, a start does not even begin.").tag(config=True)
    unnumbered = Unicode(help="Path of a file: while it is there, no port can be taken yet.").tag(config=True)

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        while Path(self.unsent).exists():
            await asyncio.sleep(0.05)
        return await super().start(spec, checkpoint)

    async def reported(self, handle: Handle, port: int) -> Handle | None:
        if Path(self.unnumbered).exists():
            raise BackendUnavailable("The number of this job is not known yet.", reason="no_job_id")
        return None if "reported" in handle else {**handle, "reported": port}
