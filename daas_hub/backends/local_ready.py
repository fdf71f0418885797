"""Waiting until a server itself answers, and nobody else in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from daas_hub.core.errors import StartFailed
from daas_hub.core.logs import readable
from daas_hub.core.models import Handle

from . import local_probe
from .local_end import Ends
from .local_folder import LaunchFolder
from .local_watch import in_thread

LOOK_EVERY_S = 0.1


class PortLost(Exception):
    """Raised when a server has ended because somebody else took the port that was free a moment before."""

    def __init__(self, handle: Handle) -> None:
        super().__init__(f"somebody else listens on port {handle['port']}")
        self.handle = handle


async def wait_ready(handle: Handle, ends: Ends, tls: Mapping[str, str], secrets: Sequence[str] = ()) -> str:
    """The URL once the server answers; raises StartFailed where it ends first, PortLost where that is why."""
    ended = asyncio.ensure_future(ends.wait(handle))
    try:
        while not ended.done():
            if await answers(handle, tls):
                scheme = "https" if handle["tls"] else "http"
                return f"{scheme}://{host_of(handle)}:{handle['port']}"
            await asyncio.wait({ended}, timeout=LOOK_EVERY_S)
        seen = ended.result()
    finally:
        ended.cancel()
    if await local_probe.listener_uid(handle["port"], host_of(handle)) is not None:
        raise PortLost(handle)
    raise StartFailed(
        f"The server ended before it answered: {seen.reason}.",
        permanent=True,
        reason="ended_early",
        log_message=f"Launch {handle['launch_id']}: {seen.reason}. "
        + await last_lines(LaunchFolder.of(handle), secrets),
    )


def host_of(handle: Handle) -> str:
    """The address where it listens; handles of servers without certificates, and old ones, name none."""
    return str(handle.get("host", local_probe.HOST))


async def answers(handle: Handle, tls: Mapping[str, str]) -> bool:
    """Whether it answers under its prefix, and the one who listens has the server's uid. ``tls``: ``Backend.tls``."""
    host, files = host_of(handle), tls if handle["tls"] else None
    if not await local_probe.answers(handle["port"], f"{handle['service_prefix']}api", host=host, files=files):
        return False
    return bool(await local_probe.listener_uid(handle["port"], host) == handle["uid"])


async def last_lines(folder: LaunchFolder, secrets: Sequence[str]) -> str:
    """The end of a server's log, without secrets."""
    shown = readable(await in_thread(folder.tail), secrets).strip()
    return f"Its last lines:\n{shown}" if shown else "It printed nothing."
