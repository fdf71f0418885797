"""A process that stands for a hub: starts one server, and dies where it is told to.

    python -m tests.faults.hub_process ROOT LAUNCH_ID WHEN

WHEN: ``running`` (prints the handle once the server answers, then waits to be killed), ``checkpoint`` (kills itself by
SIGKILL while the handle is being saved: the helper waits, nothing of the server runs yet).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.servers.local_place import LocalPlace


async def main(root: str, launch_id: str, when: str) -> None:
    place = LocalPlace(Path(root))
    spec = place.spec(launch_id)

    async def checkpoint(handle: dict[str, Any]) -> None:
        print(json.dumps(handle), flush=True)
        if when == "checkpoint":
            os.kill(os.getpid(), signal.SIGKILL)

    await place.backend.prepare(spec)
    print(await place.backend.start(spec, checkpoint), flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
