"""Starts of ours on the cluster, in the bench's own process: the backend as a hub uses it, and a route for reports."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.core.models import Handle
from daas_hub.core.naming import new_id
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.plain import site
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_place import SlurmPlace

RUNS = 60
"""The progress of a start whose job is known to run."""


class Starts(SlurmPlace):
    """One backend, settings as installed but for ``traits`` of SlurmSpawner; its starts and what they told."""

    def __init__(self, cluster: Slurm, root: Path, **traits: str) -> None:
        self._more = traits
        super().__init__(cluster, root, poll_interval_s=2.0, waiting_interval_s=1.0, command_timeout_s=15.0)
        self.handles: dict[str, Handle] = {}
        """By launch, as it was saved last."""
        self.told: dict[str, float] = {}
        """By job, when its start knew that it runs."""
        self.tasks: list[asyncio.Task[Any]] = []

    def another(self) -> SlurmBackend:
        """A backend with the further traits; what is in the prologue already stays."""
        config = site(self.cluster)
        for name, value in self._more.items():
            before = f"{config.SlurmSpawner[name]}\n" if name in config.SlurmSpawner else ""
            config.SlurmSpawner[name] = before + value
        backend = SlurmBackend(config=config, **self.traits)
        self.backends.append(backend)
        return backend

    def begin(self) -> asyncio.Task[str]:
        """A start; its result is the server's URL once that answers."""
        spec = self.spec(new_id())
        task = asyncio.create_task(self.backend.start(spec, self._keep))
        self.tasks += [task, asyncio.create_task(self._follow(spec.launch_id))]
        return task

    async def _keep(self, handle: Handle) -> None:
        self.handles[handle["launch_id"]] = handle

    async def _follow(self, launch_id: str) -> None:
        while launch_id not in self.handles:
            await asyncio.sleep(0.01)
        async for event in self.backend.events(self.handles[launch_id]):
            if event.progress is not None and event.progress >= RUNS:
                self.told.setdefault(str(self.handles[launch_id]["job_id"]), time.time())

    def jobs(self) -> list[str]:
        """The ids of all that were submitted."""
        return [str(handle["job_id"]) for handle in self.handles.values() if handle["job_id"] is not None]


@asynccontextmanager
async def starts(cluster: Slurm, **traits: str) -> AsyncIterator[Starts]:
    """Ends without stopping what runs: the cluster ends, too."""
    root = Path(tempfile.mkdtemp(prefix="daas-bench-", dir="/var/tmp"))
    root.chmod(0o755)
    await asyncio.to_thread(reachable_python)
    place = Starts(cluster, root, **traits)
    place.server = await asyncio.start_server(place.take, "127.0.0.1", 0)
    try:
        yield place
    finally:
        for task in place.tasks:
            task.cancel()
        await asyncio.gather(*place.tasks, return_exceptions=True)
        await place.backend.close()
        place.server.close()
        await place.server.wait_closed()
        shutil.rmtree(root)
