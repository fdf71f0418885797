"""One start on this machine, step by step. Until the helper is let go, whatever goes wrong leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from daas_hub.clients import passwd_files
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.models import Handle, Json, LaunchSpec

from . import local_folder, local_launch, local_probe, local_spawn
from .base import Checkpoint
from .local_end import Ends
from .local_folder import LaunchFolder
from .local_homes import AnyLogger, Homes
from .local_launch import Hub
from .local_limits import NOT_HERE, Held, Limiter, limits_of
from .local_ready import PortLost, wait_ready
from .local_settings import LocalSettings
from .local_spawn import Waiting
from .local_watch import in_thread
from .steps import Steps

PORT_ATTEMPTS = 3
NSS_WITHIN_S = 5.0
_nss = ThreadPoolExecutor(max_workers=2, thread_name_prefix="daas-nss")
"""A name service that hangs may hang these threads, never those that start servers."""


@dataclass(frozen=True)
class Tools:
    """What all starts of one backend share."""

    settings: LocalSettings
    log: AnyLogger
    limiter: Limiter
    ends: Ends
    homes: Homes
    hub: Hub
    tls: Mapping[str, str]


class Start:
    """The start of one launch."""

    def __init__(self, spec: LaunchSpec, folder: LaunchFolder, tools: Tools, steps: Steps) -> None:
        self.spec = spec
        self.folder = folder
        self.tools = tools
        self.steps = steps
        self.ids = local_launch.ids_of(spec.account, tools.hub)
        self.identity = local_launch.identity_request(self.ids, tools.hub, no_new_privs=tools.settings.no_new_privs)

    async def run(self, checkpoint: Checkpoint) -> str:
        """The server's URL once it answers."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                handle = await self._attempt(checkpoint)
                return await wait_ready(handle, self.tools.ends, self.tools.tls, tuple(self.spec.secrets.values()))
            except PortLost as lost:
                await self.tools.ends.kill_rest(lost.handle)
                if attempt == PORT_ATTEMPTS:
                    raise StartFailed(f"No port stayed free: {lost}.", permanent=False, reason="port") from lost
                self.tools.log.warning("Launch %s tries another port: %s", self.spec.launch_id, lost)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, checkpoint: Checkpoint) -> Handle:
        """Lay out, spawn, limit, save, let go: in this order."""
        waiting: Waiting | None = None
        let_go = False
        try:
            request, warnings = await self._lay_out()
            waiting = await self._spawn()
            handle = await self._limit_and_record(waiting)
            self.tools.ends.expect(handle)
            await checkpoint(handle)
            let_go = True
        finally:
            if not let_go:
                await self._undo(waiting)
        request["env"] |= local_launch.address(self.spec, handle["port"])
        report = await waiting.go(request)
        if "error" in report:
            why = report["error"]
            failed = self._not_executed(why) if report.get("not_executed") else self._not_become(why)
            await self.tools.ends.explain(handle, failed.message)
            raise failed
        return await self._warn(handle, [*report.get("warnings", ()), *warnings], checkpoint)

    async def _lay_out(self) -> tuple[Json, list[str]]:
        """Make the launch's folder with Jupyter's folders in it; the helper's request, and warnings."""
        lines = await self._passwd_lines()
        try:
            certificates, binds = await in_thread(self._make_folder, lines)
        except OSError as error:
            raise StartFailed(
                "The server cannot be started on this machine just now. Please tell the administrator.",
                permanent=False,
                reason="runtime_dir",
                log_message=f"LocalBackend.runtime_dir ({self.tools.settings.runtime_dir}): {error}",
            ) from error
        warnings = await self.tools.homes.carry_out(self.spec.account, self.folder, self.identity)
        if warnings:
            self.steps.add("The home is nearly full: deleted files do not go to the trash", 40)
        kept = {name: os.environ[name] for name in self.tools.settings.env_keep if name in os.environ}
        request = self.identity | {
            "umask": int(self.tools.settings.umask, 8),
            "cwd": self.spec.account.home,
            "argv": list(self.spec.cmd),
            "env": local_launch.environment(self.spec, self.folder, inherited=kept, certificates=certificates),
            "secrets": str(self.folder.secrets),
            "binds": binds,
        }
        return request, [*warnings, *local_launch.groups_warning(self.spec.account, self.ids)]

    async def _passwd_lines(self) -> tuple[str, str] | None:
        """passwd and group files with the account's lines, where NSS does not know it. None: not needed, or not root.

        NSS that hangs counts as one that does not know her: the server must not hang in it too.
        """
        if self.tools.hub.uid != 0:
            return None
        asked = asyncio.get_running_loop().run_in_executor(_nss, passwd_files.known, self.spec.account)
        try:
            if await asyncio.wait_for(asked, NSS_WITHIN_S):
                return None
        except (TimeoutError, OSError):
            self.tools.log.warning("The name service does not answer about %s", self.spec.account.name)
        return await in_thread(passwd_files.of_this_machine, self.spec.account)

    def _make_folder(self, lines: tuple[str, str] | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """Certificates as variables, and files to put over others. Blocks."""
        ids, folder = self.ids, self.folder
        local_folder.make_root(folder.path.parent)
        folder.make(ids.uid, ids.gid, self.spec.secrets)
        home = {"home": self.spec.account.home}
        folder.save("account", {"uid": ids.uid, "gid": ids.gid, "groups": list(ids.groups), **home})
        certificates = folder.put_certificates(self.spec.certificates or {}, ids.uid, ids.gid)
        return certificates, folder.put_passwd(*lines) if lines else []

    async def _spawn(self) -> Waiting:
        limits = limits_of(self.spec.resources, self.tools.settings.max_processes)
        prefix = await self.tools.limiter.prefix(self.spec.launch_id, limits)
        try:
            waiting = await local_spawn.start(local_spawn.RUN_AS, self.folder.log, prefix=prefix)
        except OSError as error:
            # No process, no memory or no descriptor left: says nothing about this server.
            raise BackendUnavailable(
                "This machine cannot start another process just now. Try again later.",
                log_message=f"The helper of launch {self.spec.launch_id} could not be spawned: {error}",
                retry_after_s=30,
            ) from error
        self.tools.ends.watch(self.spec.launch_id, waiting.process, waiting.pidfd)
        return waiting

    async def _limit_and_record(self, waiting: Waiting) -> Handle:
        limits = limits_of(self.spec.resources, self.tools.settings.max_processes)
        held = await self.tools.limiter.hold(self.spec.launch_id, waiting.process, limits)
        self._check_limits(held)
        port = await in_thread(local_probe.free_port, local_launch.host_of(self.spec))
        handle = local_launch.handle(self.spec, self.ids, waiting.process, port=port, path=self.folder.path)
        handle |= held.facts()
        await in_thread(self.folder.save, "record", handle)
        return handle

    def _check_limits(self, held: Held) -> None:
        if held.reason and self.tools.settings.require_limits:
            raise StartFailed(
                "This machine cannot hold servers to their limits, and its administrator requires that.",
                permanent=True,
                reason="limits",
                log_message=f"LocalBackend.require_limits is set, but {NOT_HERE}: {held.reason}",
            )

    async def _undo(self, waiting: Waiting | None) -> None:
        """Remove what was made for a helper that was never let go. Awaited also when the start is cancelled."""
        ended = True
        if waiting is not None:
            waiting.abandon()
            ended = await self.tools.ends.gone(self.spec.launch_id)
        if ended:
            await self.tools.limiter.undo(self.spec.launch_id)
            await in_thread(self.folder.remove)
            self.tools.ends.forget(self.spec.launch_id)

    async def _warn(self, handle: Handle, warnings: list[str], checkpoint: Checkpoint) -> Handle:
        """Keep warnings in the handle, where pages find them."""
        self.steps.add(f"The server's process runs as uid {self.ids.uid}", 60, "\n".join(warnings))
        if not warnings:
            return handle
        handle = handle | {"warnings": warnings}
        await in_thread(self.folder.save, "record", handle)
        await checkpoint(handle)
        return handle

    def _not_executed(self, why: str) -> StartFailed:
        return StartFailed(
            f"The server's program could not be started as {self.spec.account.name}: {why}. Whoever administers this "
            "hub can install it, or correct DaasSpawner.cmd.",
            permanent=True,
            reason="program",
        )

    def _not_become(self, why: str) -> StartFailed:
        account = self.spec.account
        self.tools.log.error("Launch %s did not become uid %s: %s", self.spec.launch_id, account.uid, why)
        return StartFailed(
            f"The server could not be started as {account.name} (uid {account.uid}): {why}",
            permanent=True,
            reason="become",
        )
