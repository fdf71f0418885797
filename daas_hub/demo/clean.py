"""Nothing is left: what a demo started is stopped, by its own records, also after it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from traitlets.config import Config

from daas_hub.backends.local import LocalBackend
from daas_hub.clients import processes
from daas_hub.clients.processes import ProcessId
from daas_hub.core.models import ACTIVE, Handle, Life
from daas_hub.db.ledger import LaunchRow, Ledger

from .folders import Folders
from .hub import remembered_process

STOP_WITHIN_S = 20.0
HUB_WITHIN_S = 90.0


def backend_of(folders: Folders) -> LocalBackend:
    """The local backend as the demo's hub has it."""
    config = Config({"LocalBackend": {"runtime_dir": str(folders.run), "allow_shared_uid": os.geteuid() != 0}})
    return LocalBackend(config=config, hub_id=folders.hub_id)


async def _gone(process: ProcessId, within_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + within_s
    while processes.alive(process):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


async def _end(process: ProcessId, within_s: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes.send(process, number)
        if await _gone(process, within_s):
            return


async def stop_earlier_hub(folders: Folders, say: Callable[[str], None]) -> None:
    """A hub of a demo that was killed: let it stop its servers, then make sure that it is gone."""
    hub = remembered_process(folders, "hub")
    if hub is not None:
        say("An earlier demo was killed: stopping what it left.")
        await _end(hub, HUB_WITHIN_S)
    folders.forget("process-hub")


async def walk_ledger(folders: Folders) -> list[str]:
    """Stop and settle every launch that is not ended. Returns what could not be stopped, for the person."""
    if not (folders.state / "ledger.sqlite").exists():
        return []
    ledger = Ledger.open(folders.ledger_url)
    backend = backend_of(folders)
    left = []
    for row in ledger.launches(states=ACTIVE):
        handle = row.handle or await _found(backend, row)
        if handle is not None:
            seen = await backend.stop(handle, within_s=STOP_WITHIN_S)
            if seen.life is not Life.ENDED:
                left.append(f"the server of {row.user_name} still runs ({seen.reason})")
                continue
            evidence = "the demo stopped it and saw it end"
        else:
            evidence = "the local backend has nothing of this launch"
        ledger.settle(row.id, code=None, reason="the demo was stopped", evidence=evidence, now=datetime.now(UTC))
        if handle is not None:
            await backend.cleanup(handle)
    await backend.close()
    ledger.close()
    return left


async def _found(backend: LocalBackend, row: LaunchRow) -> Handle | None:
    return next((f.handle for f in await backend.find() if f.launch_id == row.id), None)


def marked(hub_id: str) -> Iterator[ProcessId]:
    """Processes of this uid whose environment names this demo's hub: hub, proxy and services. Never ourselves."""
    mark = f"DAAS_HUB_ID={hub_id}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment and processes.uid_of(int(entry.name)) == os.geteuid():
            known = processes.identify(int(entry.name))
            if known is not None:
                yield known


async def sweep(hub_id: str) -> None:
    """End what hub, proxy and services left of themselves."""
    await asyncio.gather(*(_end(process, 5.0) for process in list(marked(hub_id))))


def remove_cgroups(hub_id: str) -> None:
    """Remove the empty groups that the local backend made for this hub; one that is in use stays."""
    tops = list(Path("/sys/fs/cgroup").rglob(f"daas-{hub_id}*"))
    groups = {group for top in tops for group in (top, *top.rglob("*")) if group.is_dir()}
    for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            group.rmdir()
