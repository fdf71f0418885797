"""A server of this machine under test, and what its shell and its processes say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from daas_hub.clients import processes
from daas_hub.core.models import Handle
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.local_place import LocalPlace, alive
from tests.servers.tiny_server import get


async def begin(place: LocalPlace, saved: Saved, **options: Any) -> str:
    spec = place.spec(new_id(), **options)
    await place.backend.prepare(spec)
    return f"{await place.backend.start(spec, saved)}{spec.service_prefix}"


async def quoted(place: LocalPlace, url: str, command: str) -> str:
    """What a shell command prints inside the server."""
    query = json.dumps(["sh", "-c", command]).replace(" ", "%20").replace("\\", "%5C").replace("&", "%26")
    answer = await asyncio.to_thread(get, f"{url}run?{query}")
    return str(answer["text"])


async def pids_of(handle: Handle) -> list[int]:
    """All processes of a server, by the mark in their environment."""
    mark = ("DAAS_LAUNCH_ID", handle["launch_id"], handle["uid"])
    return [process.pid for process in await asyncio.to_thread(processes.with_environment, *mark)]


async def gone(pids: list[int]) -> bool:
    """Whether none of these runs."""
    return not [pid for pid in pids if await alive(pid)]


# ---------------------------------------------------------------- limits
