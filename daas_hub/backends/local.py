"""Servers on this machine, each a process of its own account.

The flow of a start: the home is looked at or made (``prepare``); a folder outside the home gets Jupyter's own files;
a helper is spawned that waits; it is put into a cgroup; its handle is saved; only then it is let go, becomes the
account, and execs the server; the start is over when the server answers. The pieces: ``local_start`` (that flow),
``local_launch`` (values), ``local_folder`` (files), ``local_spawn`` (helpers), ``local_limits`` (cgroups),
``local_ready`` (answers), ``local_end`` (ends and stops).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from subprocess import SubprocessError
from typing import Any
from weakref import WeakValueDictionary

from daas_hub.clients import interpreters, passwd_files, processes
from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.logs import LINES, readable
from daas_hub.core.models import Event, Found, Handle, Json, LaunchSpec, Life, Observation
from daas_hub.core.turns import Bounds

from . import local_folder, local_launch, local_probe, local_tokens
from .base import Backend, Checkpoint, Doubt
from .local_capacity import CapacityLook
from .local_end import Ends
from .local_folder import LaunchFolder
from .local_homes import Homes
from .local_launch import Hub
from .local_limits import NOT_HERE, Limiter
from .local_ready import PortLost, last_lines, wait_ready
from .local_settings import LocalSettings
from .local_start import Start, Tools
from .local_watch import in_thread
from .steps import Steps

SWEEP_EVERY_S = 3600.0
LOG_BYTES = 2**20
"""How far back a log is looked at for its last lines."""


class LocalBackend(LocalSettings, Backend):
    """Starts servers on this machine as the account's uid and gids."""

    name = "local"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limiter = Limiter(self.hub_id, self.log)
        self._ends = Ends()
        self._homes = Homes(self, self.log)
        self._capacity = CapacityLook()
        self._keeper = local_tokens.Keeper()
        self._steps: dict[str, Steps] = {}
        self._swept_at = 0.0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def _root(self) -> Path:
        return Path(self.runtime_dir) / self.hub_id

    def _hub(self) -> Hub:
        groups = tuple(sorted(set(os.getgroups())))
        return Hub(os.geteuid(), os.getegid(), groups, self.allow_shared_uid, self.min_uid)

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.max_starting, self.kept_room())

    @property
    def shares_uid(self) -> bool:
        return bool(self.allow_shared_uid) and os.geteuid() != 0

    def claim(self, ledger_id: str) -> None:
        local_folder.claim(self._root, ledger_id, setting="LocalBackend.runtime_dir")

    async def capacity(self) -> Sequence[Capacity]:
        place = await self._limiter.place()
        notes = [local_launch.SHARED] if self.shares_uid else []
        notes += [f"{NOT_HERE}: {place.reason}"] if place.reason else []
        return [await self._capacity.look(self.name, enforces_limits=place.enforces, note="; ".join(notes))]

    # ------------------------------------------------------------ start

    async def certificate_names(self, spec: LaunchSpec) -> Sequence[str]:
        return (f"IP:{local_probe.own_host(spec.launch_id)}",)

    async def prepare(self, spec: LaunchSpec) -> Mapping[str, Json]:
        await self.sweep()
        ids = local_launch.ids_of(spec.account, self._hub())
        if problem := passwd_files.unfit(spec.account):
            raise AccountRefused(f"The account cannot be used: {problem}.", reason="unfit_account")
        for mount in spec.mounts:
            if mount.source != mount.path or mount.read_only:
                text = f"{mount.path} cannot be mounted from {mount.source} on this machine."
                raise StartFailed(text, permanent=True, reason="mount")
        await self._homes.make(spec.account.home, ids)
        return {}

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        lock = self._locks.setdefault(spec.launch_id, asyncio.Lock())
        async with lock:
            folder = LaunchFolder(self._root, spec.launch_id)
            saved = await in_thread(folder.handle)
            if saved is not None:
                if (await self.inspect(saved)).life is Life.RUNNING:
                    return await self.resume(saved)
                await self._ends.kill_rest(saved)
            steps = self._steps[spec.launch_id] = Steps()
            tools = Tools(self, self.log, self._limiter, self._ends, self._homes, self._hub(), self.tls)
            try:
                async with asyncio.timeout(self.wait_policy_s):
                    return await Start(spec, folder, tools, steps).run(checkpoint)
            except TimeoutError as error:
                raise await self._too_late(spec, folder) from error
            finally:
                steps.finish()

    async def _too_late(self, spec: LaunchSpec, folder: LaunchFolder) -> StartFailed:
        lines = await last_lines(folder, tuple(spec.secrets.values()))
        return StartFailed(
            f"The server did not answer within {self.wait_policy_s} s.",
            permanent=False,
            reason="timeout",
            log_message=f"Launch {spec.launch_id} did not answer within {self.wait_policy_s} s. {lines}",
        )

    async def resume(self, handle: Handle) -> str:
        seen = await self.inspect(handle)
        if seen.life is Life.UNKNOWN:
            raise BackendUnavailable(f"It cannot be told whether the server runs: {seen.reason}.")
        if seen.life is Life.ENDED:
            raise StartFailed(f"The server has ended: {seen.reason}.", permanent=True, reason="ended")
        try:
            async with asyncio.timeout(self.wait_policy_s):
                return await wait_ready(handle, self._ends, self.tls)
        except TimeoutError as error:
            raise BackendUnavailable(
                f"The server runs, but did not answer within {self.wait_policy_s} s.", reason="no_answer"
            ) from error
        except PortLost as lost:
            raise StartFailed(f"The server has ended, and {lost}.", permanent=True, reason="ended") from lost

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        steps = self._steps.get(handle["launch_id"])
        if steps is not None:
            async for event in steps.follow():
                yield event

    # ------------------------------------------------------------ look, end

    async def inspect(self, handle: Handle) -> Observation:
        return await self._ends.inspect(handle)

    async def wait_ended(self, handle: Handle, *, doubt: Doubt | None = None) -> Observation:  # noqa: ARG002
        return await self._ends.wait(handle)

    async def log_tail(self, handle: Handle, lines: int = LINES) -> str | None:
        try:
            folder = LaunchFolder.of(handle)
            if not await in_thread(folder.log.exists):
                return None
            return readable(await in_thread(lambda: folder.tail(limit_bytes=LOG_BYTES)), lines=lines)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def hand_over(self, handle: Handle, files: Mapping[str, str]) -> None:
        try:
            folder = LaunchFolder.of(handle)
            owner = (int(handle["uid"]), int(handle["gid"])) if os.geteuid() == 0 else None
            await in_thread(self._keeper.require, self._root)
            await in_thread(local_tokens.put, folder, files, owner)
        except (OSError, ValueError, KeyError) as error:
            raise BackendUnavailable(f"The site tokens cannot be handed over now: {error}") from error

    async def handed_over(self, handle: Handle) -> Mapping[str, str]:
        try:
            return await in_thread(LaunchFolder.of(handle).saved, "site_tokens") or {}
        except (OSError, ValueError, KeyError) as error:
            raise BackendUnavailable(f"The site tokens cannot be read now: {error}") from error

    async def software(self, handle: Handle) -> Json:
        program = handle.get("program")
        if not isinstance(program, str):
            return {}
        return await in_thread(interpreters.software_of, program)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        return await self._ends.stop(handle, grace_s=self.stop_grace_s, within_s=within_s)

    async def find(self) -> Sequence[Found]:
        try:
            return await in_thread(self._find)
        except OSError as error:
            raise BackendUnavailable(f"This machine's launches cannot be read: {error}") from error

    def _find(self) -> list[Found]:
        found = []
        for folder in local_folder.all_of(self._root):
            handle = folder.handle()
            if handle is None:
                continue
            try:
                process = local_launch.process_of(handle)
            except ValueError:
                continue
            # Ours only if it is the recorded process *and* has the recorded uid (design.md §4.3).
            if processes.alive(process) and processes.uid_of(process.pid) == handle["uid"]:
                found.append(Found(folder.launch_id, handle, handle["uid"], processes.started_at(process)))
        return found

    async def cleanup(self, handle: Handle) -> None:
        try:
            folder = LaunchFolder.of(handle)
            await self._ends.kill_rest(handle)
            await self._homes.carry_back(folder, self._hub())
            await in_thread(self._limiter.remove, local_launch.groups_of(handle))
            await in_thread(folder.remove)
        except (OSError, ValueError, KeyError, SubprocessError) as error:
            raise BackendUnavailable(f"What the launch left cannot be removed yet: {error}") from error
        self._ends.forget(handle["launch_id"])
        self._steps.pop(handle["launch_id"], None)

    async def cleanup_lost(self, launch_id: str) -> None:
        lock = self._locks.get(launch_id)
        if lock is not None and lock.locked():
            # A start of this very process is at it: it removes what it made itself.
            return
        try:
            folder = LaunchFolder(self._root, launch_id)
            handle = await in_thread(folder.handle)
            if handle is not None:
                if (await self.inspect(handle)).life is not Life.ENDED:
                    raise BackendUnavailable("What was begun of the launch cannot be removed: its process runs.")
                await self.cleanup(handle)
                return
            await self._limiter.undo(launch_id)
            await in_thread(folder.remove)
        except (OSError, ValueError, SubprocessError) as error:
            raise BackendUnavailable(f"What the launch left cannot be removed yet: {error}") from error

    async def sweep(self) -> None:
        """Remove what launches left that ended long ago and that nobody settled; looks once an hour at most."""
        now = time.time()
        if now - self._swept_at < SWEEP_EVERY_S:
            return
        self._swept_at = now
        for folder in await in_thread(self._leftovers, now - self.leftovers_after_s):
            handle = await in_thread(folder.handle)
            self.log.warning("Removing what launch %s left: nobody has settled it", folder.launch_id)
            try:
                await (in_thread(folder.remove) if handle is None else self.cleanup(handle))
            except (OSError, BackendUnavailable) as error:
                self.log.error("What launch %s left cannot be removed: %s", folder.launch_id, error)

    def _leftovers(self, before: float) -> list[LaunchFolder]:
        """Folders not touched since then, of which no recorded process runs."""
        found = []
        for folder in local_folder.all_of(self._root):
            handle = folder.handle()
            try:
                running = handle is not None and processes.alive(local_launch.process_of(handle))
            except ValueError:
                # A handle of another version of this backend: it knows what to do with it.
                continue
            if not running and folder.path.stat().st_mtime < before:
                found.append(folder)
        return found

    async def close(self) -> None:
        self._keeper.close()
        self._ends.close()
