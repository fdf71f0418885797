"""Servers on this machine, each a process of its own account.

The flow of a start: the home is looked at or made (``prepare``); a folder outside the home gets Jupyter's own files;
a helper is spawned that waits; it is put into a cgroup; its handle is saved; only then it is let go, becomes the
account, and execs the server; the start is over when the server answers. The pieces: ``local_launch`` (values),
``local_folder`` (files), ``local_spawn`` (helpers), ``local_limits`` (cgroups), ``local_end`` (ends and stops).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from daas_hub.clients import cgroups, passwd_files, processes
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.models import Capacity, Event, Found, Handle, Json, LaunchSpec, Life, Observation

from . import local_folder, local_launch, local_probe, local_spawn
from .base import Backend, Checkpoint
from .local_capacity import CapacityLook
from .local_end import Ends
from .local_folder import LaunchFolder
from .local_launch import Hub, Ids
from .local_limits import NOT_HERE, Held, Limiter, limits_of
from .local_settings import LocalSettings
from .local_steps import Steps

PORT_ATTEMPTS = 3
NSS_WITHIN_S = 5.0
LOOK_EVERY_S = 0.1


class PortLost(Exception):
    """Raised when somebody else listens on the port that was free a moment ago."""


class LocalBackend(LocalSettings, Backend):
    """Starts servers on this machine as the account's uid and gids."""

    name = "local"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._limiter = Limiter(self.hub_id, self.log)
        self._ends = Ends(self._folder_of)
        self._capacity = CapacityLook()
        self._steps: dict[str, Steps] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def _root(self) -> Path:
        return Path(self.runtime_dir) / self.hub_id

    def _folder(self, launch_id: str) -> LaunchFolder:
        return LaunchFolder(self._root, launch_id)

    def _folder_of(self, handle: Handle) -> LaunchFolder:
        """Where the handle says it is: ``runtime_dir`` may have been changed since."""
        return LaunchFolder(Path(handle["dir"]).parent, handle["launch_id"])

    def _hub(self) -> Hub:
        groups = tuple(sorted(set(os.getgroups())))
        return Hub(os.geteuid(), os.getegid(), groups, self.allow_shared_uid, self.min_uid)

    # ------------------------------------------------------------ capacity, prepare

    async def capacity(self) -> Sequence[Capacity]:
        place = await self._limiter.place()
        shared = self.allow_shared_uid and os.geteuid() != 0
        notes = [local_launch.SHARED] if shared else []
        notes += [f"{NOT_HERE}: {place.reason}"] if place.reason else []
        return [await self._capacity.look(self.name, enforces_limits=place.enforces, note="; ".join(notes))]

    async def prepare(self, spec: LaunchSpec) -> None:
        account, ids = spec.account, local_launch.ids_of(spec.account, self._hub())
        if problem := passwd_files.unfit(account):
            raise AccountRefused(f"The account cannot be used: {problem}.", reason="unfit_account")
        for mount in spec.mounts:
            if mount.source != mount.path or mount.read_only:
                raise StartFailed(
                    f"{mount.path} cannot be mounted from {mount.source} on this machine.", permanent=True
                )
        task = {"do": "make", "home": account.home, "home_roots": list(self.home_roots), "uid": ids.uid, "gid": ids.gid}
        await self._home_task(task, "The home")

    async def _home_task(self, task: Json, what: str) -> Json:
        """Do a task in a home; raises StartFailed with what is wrong about it."""
        try:
            report = await local_spawn.home_task(task, Path(os.devnull), within_s=self.home_timeout_s)
        except TimeoutError as error:
            raise StartFailed(
                f"{what} {task['home']} did not answer within {self.home_timeout_s:g} s. Try again later.",
                permanent=False,
                reason="home_timeout",
            ) from error
        if "error" in report:
            text = (
                report["error"] if report.get("known") else f"{what} {task['home']} cannot be used: {report['error']}"
            )
            raise StartFailed(text, permanent=True, reason="home")
        return report

    # ------------------------------------------------------------ start

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        lock = self._locks.setdefault(spec.launch_id, asyncio.Lock())
        async with lock:
            saved = await asyncio.to_thread(self._folder(spec.launch_id).handle)
            if saved is not None and (await self.inspect(saved)).life is Life.RUNNING:
                return await self.resume(saved)
            steps = self._steps[spec.launch_id] = Steps()
            try:
                async with asyncio.timeout(self.wait_policy_s):
                    return await self._start(spec, checkpoint, steps)
            except TimeoutError as error:
                raise await self._too_late(spec) from error
            finally:
                steps.finish()

    async def _start(self, spec: LaunchSpec, checkpoint: Checkpoint, steps: Steps) -> str:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                return await self._attempt(spec, checkpoint, steps)
            except PortLost as lost:
                if attempt == PORT_ATTEMPTS:
                    raise StartFailed(f"No port stayed free: {lost}", permanent=False, reason="port") from lost
                self.log.warning("Launch %s tries another port: %s", spec.launch_id, lost)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, spec: LaunchSpec, checkpoint: Checkpoint, steps: Steps) -> str:
        hub = self._hub()
        ids = local_launch.ids_of(spec.account, hub)
        folder = self._folder(spec.launch_id)
        identity = local_launch.identity_request(ids, hub, no_new_privs=self.no_new_privs)
        certificates, binds = await self._lay_out(spec, folder, ids)
        staged = await self._carry_out(spec, folder, identity, steps)
        limits = limits_of(spec.resources, self.max_processes)
        prefix = await self._limiter.prefix(spec.launch_id, limits)
        waiting = await local_spawn.start(local_spawn.RUN_AS, folder.log, prefix=prefix)
        self._ends.watch(spec.launch_id, waiting.process, waiting.pidfd)
        let_go = False
        try:
            held = await self._limiter.hold(spec.launch_id, waiting.process, limits)
            self._check_limits(held)
            port = await asyncio.to_thread(local_probe.free_port)
            handle = self._handle(spec, ids, waiting.process, port, held, folder)
            await asyncio.to_thread(folder.save, "record", handle)
            self._ends.expect(handle)
            await checkpoint(handle)
            let_go = True
        finally:
            if not let_go:
                waiting.abandon()
                await self._undo(spec.launch_id, folder)
        env = local_launch.environment(spec, folder, port=port, inherited=self._inherited(), certificates=certificates)
        request = identity | {
            "umask": int(self.umask, 8),
            "cwd": spec.account.home,
            "argv": list(spec.cmd),
            "env": env,
            "secrets": str(folder.secrets),
            "binds": binds,
        }
        report = await waiting.go(request)
        await self._check_report(spec, report)
        warnings = [*report.get("warnings", ()), *staged]
        if warnings:
            handle = handle | {"warnings": warnings}
            await asyncio.to_thread(folder.save, "record", handle)
            await checkpoint(handle)
        steps.add(f"The server's process runs as uid {ids.uid}", 60, "\n".join(warnings))
        return await self._wait_ready(handle, tuple(spec.secrets.values()))

    async def _undo(self, launch_id: str, folder: LaunchFolder) -> None:
        """Remove what was made for a helper that was never let go. Awaited also when the start is cancelled."""
        if await self._ends.gone(launch_id):
            await asyncio.to_thread(cgroups.remove, await self._limiter.groups(launch_id))
            await asyncio.to_thread(folder.remove)
            self._ends.forget(launch_id)

    def _inherited(self) -> dict[str, str]:
        return {name: os.environ[name] for name in self.env_keep if name in os.environ}

    async def _lay_out(
        self, spec: LaunchSpec, folder: LaunchFolder, ids: Ids
    ) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """Make the launch's folder; what of it the server needs to know: certificates, files over /etc/passwd."""
        lines = None
        if os.geteuid() == 0 and not await self._known_to_nss(spec):
            lines = await asyncio.to_thread(self._passwd_with, spec)

        def make() -> tuple[dict[str, str], list[tuple[str, str]]]:
            local_folder.make_root(self._root)
            folder.make(ids.uid, ids.gid, spec.secrets)
            folder.save(
                "account", {"uid": ids.uid, "gid": ids.gid, "groups": list(ids.groups), "home": spec.account.home}
            )
            certificates = folder.put_certificates(spec.certificates or {}, ids.uid, ids.gid)
            return certificates, folder.put_passwd(*lines) if lines else []

        try:
            return await asyncio.to_thread(make)
        except OSError as error:
            raise StartFailed(
                "The server cannot be started on this machine just now. Tell the administrator: no launch folder.",
                permanent=False,
                reason="runtime_dir",
                log_message=f"LocalBackend.runtime_dir ({self.runtime_dir}): {error}",
            ) from error

    async def _known_to_nss(self, spec: LaunchSpec) -> bool:
        """NSS that hangs counts as one that does not know her: the server must not hang in it too."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(passwd_files.known, spec.account), NSS_WITHIN_S)
        except (TimeoutError, OSError):
            return False

    def _passwd_with(self, spec: LaunchSpec) -> tuple[str, str]:
        passwd, group = (Path(name).read_text(errors="replace") for name in ("/etc/passwd", "/etc/group"))
        return passwd_files.with_lines(spec.account, passwd, group)

    async def _carry_out(self, spec: LaunchSpec, folder: LaunchFolder, identity: Json, steps: Steps) -> list[str]:
        """Jupyter's folders with the settings of the home; warnings for the handle."""
        own = {"own": str(folder.own), "home": spec.account.home, "full_home_bytes": self.full_home_bytes}
        report = await self._home_task({"do": "carry_out", **own, **identity}, "The home")
        if report["skipped"]:
            self.log.info("Settings left out of launch %s: %s", spec.launch_id, "; ".join(report["skipped"]))
        if not report["home_nearly_full"]:
            return []
        steps.add("Your home is nearly full: deleted files do not go to the trash", 50)
        return ["home_nearly_full: files are deleted at once, not moved to the trash"]

    def _check_limits(self, held: Held) -> None:
        if held.reason and self.require_limits:
            raise StartFailed(
                "This machine cannot hold servers to their limits, and its administrator requires that.",
                permanent=True,
                reason="limits",
                log_message=f"LocalBackend.require_limits is set, but {NOT_HERE}: {held.reason}",
            )

    def _handle(
        self, spec: LaunchSpec, ids: Ids, process: processes.ProcessId, port: int, held: Held, folder: LaunchFolder
    ) -> Handle:
        return {
            "backend": self.name,
            "version": local_launch.VERSION,
            "launch_id": spec.launch_id,
            "boot_id": process.boot_id,
            "pid": process.pid,
            "start_time": process.start_time,
            "uid": ids.uid,
            "shared_uid": ids.shared,
            "port": port,
            "tls": bool(spec.certificates),
            "service_prefix": spec.service_prefix,
            "dir": str(folder.path),
            "memory_bytes": spec.resources.mem_limit_bytes,
            "warnings": [],
            **held.facts(),
        }

    async def _check_report(self, spec: LaunchSpec, report: Json) -> None:
        if "error" not in report:
            return
        self.log.error("Launch %s did not become uid %s: %s", spec.launch_id, spec.account.uid, report["error"])
        raise StartFailed(
            f"The server could not be started as {spec.account.name} (uid {spec.account.uid}): {report['error']}",
            permanent=True,
            reason="become",
        )

    # ------------------------------------------------------------ ready

    async def _wait_ready(self, handle: Handle, secrets: Sequence[str] = ()) -> str:
        """The URL once the server itself answers; raises StartFailed where it ends first."""
        ended = asyncio.ensure_future(self.wait_ended(handle))
        try:
            while not ended.done():
                if await self._answers(handle):
                    scheme = "https" if handle["tls"] else "http"
                    return f"{scheme}://{local_probe.HOST}:{handle['port']}"
                await asyncio.wait({ended}, timeout=LOOK_EVERY_S)
            seen = ended.result()
        finally:
            ended.cancel()
        if await local_probe.listener_uid(handle["port"]) is not None:
            raise PortLost(f"somebody else listens on port {handle['port']}")
        tail = await asyncio.to_thread(self._folder_of(handle).tail)
        shown = local_launch.without_secrets(tail, secrets).strip()
        raise StartFailed(
            f"The server ended before it answered: {seen.reason}.",
            permanent=True,
            reason="ended_early",
            log_message=f"Launch {handle['launch_id']}: {seen.reason}. Its last lines:\n{shown}",
        )

    async def _answers(self, handle: Handle) -> bool:
        """Whether the server answers on its port, and nobody else in its place."""
        path = f"{handle['service_prefix']}api"
        if not await local_probe.answers(handle["port"], path, tls=handle["tls"]):
            return False
        return bool(await local_probe.listener_uid(handle["port"]) == handle["uid"])

    async def _too_late(self, spec: LaunchSpec) -> StartFailed:
        tail = await asyncio.to_thread(self._folder(spec.launch_id).tail)
        shown = local_launch.without_secrets(tail, tuple(spec.secrets.values())).strip()
        return StartFailed(
            f"The server did not answer within {self.wait_policy_s} s.",
            permanent=False,
            reason="timeout",
            log_message=f"Launch {spec.launch_id} did not answer in time. Its last lines:\n{shown}",
        )

    async def resume(self, handle: Handle) -> str:
        seen = await self.inspect(handle)
        if seen.life is Life.UNKNOWN:
            raise BackendUnavailable(f"It cannot be told whether the server runs: {seen.reason}.")
        if seen.life is Life.ENDED:
            raise StartFailed(f"The server has ended: {seen.reason}.", permanent=True, reason="ended")
        try:
            async with asyncio.timeout(self.wait_policy_s):
                return await self._wait_ready(handle)
        except TimeoutError as error:
            raise BackendUnavailable(
                f"The server runs, but did not answer within {self.wait_policy_s} s.", reason="no_answer"
            ) from error
        except PortLost as lost:
            raise StartFailed(f"The server has ended, and {lost}.", permanent=True, reason="ended") from lost

    # ------------------------------------------------------------ look, end

    async def inspect(self, handle: Handle) -> Observation:
        return await self._ends.inspect(handle)

    async def wait_ended(self, handle: Handle) -> Observation:
        return await self._ends.wait(handle)

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        return await self._ends.stop(handle, grace_s=self.stop_grace_s, within_s=within_s)

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        steps = self._steps.get(handle["launch_id"])
        if steps is not None:
            async for event in steps.follow():
                yield event

    async def find(self) -> Sequence[Found]:
        try:
            return await asyncio.to_thread(self._find)
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
        folder = self._folder_of(handle)
        await self._ends.kill_rest(handle)
        await self._carry_back(folder)
        await asyncio.to_thread(cgroups.remove, local_launch.groups_of(handle))
        await asyncio.to_thread(folder.remove)
        self._ends.forget(handle["launch_id"])
        self._steps.pop(handle["launch_id"], None)

    async def _carry_back(self, folder: LaunchFolder) -> None:
        """Settings go home, as the user and while there is room; without them is better than not at all."""
        account = await asyncio.to_thread(folder.saved, "account")
        if account is None:
            return
        hub = self._hub()
        ids = Ids(account["uid"], account["gid"], tuple(account["groups"]))
        identity = local_launch.identity_request(ids, hub, no_new_privs=self.no_new_privs)
        task = {"do": "carry_back", "own": str(folder.own), "home": account["home"], **identity}
        try:
            report = await self._home_task(task, "The home")
        except StartFailed as error:
            report = {"skipped": [error.message]}
        if report["skipped"]:
            self.log.warning("Settings of launch %s not saved: %s", folder.launch_id, "; ".join(report["skipped"]))

    async def close(self) -> None:
        self._ends.close()
