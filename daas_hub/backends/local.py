"""Servers on this machine, each a process of its own account."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from traitlets import Bool, Float, Int, List, Unicode, default

from daas_hub.clients import processes
from daas_hub.clients.processes import ProcessId
from daas_hub.core.errors import AccountRefused, StartFailed
from daas_hub.core.models import Capacity, Event, Found, Handle, Json, LaunchSpec, Life, Observation

from . import local_folder, local_probe, local_spawn
from .base import Backend, Checkpoint
from .local_folder import LaunchFolder
from .local_watch import Watch, watch


def process_of(handle: Handle) -> ProcessId:
    """The recorded process of a handle."""
    return ProcessId(handle["boot_id"], handle["pid"], handle["start_time"])


class LocalBackend(Backend):
    """Starts servers on this machine as the account's uid and gids."""

    name = "local"

    runtime_dir = Unicode(
        help="Folder for what launches need while they run: records, logs, Jupyter's own runtime files. Outside every "
        "home (a home may be full). Made as needed, mode 0711. The default is /var/lib/daas-hub/run for root, else "
        "~/.local/state/daas-hub/run of the hub's own user.",
    ).tag(config=True)

    min_uid = Int(
        1000,
        min=1,
        help="The lowest uid that the helper itself accepts, whatever was decided before: the third of three layers. "
        "1000 is where Linux distributions begin ordinary accounts.",
    ).tag(config=True)

    allow_shared_uid = Bool(
        False,
        help="Where the hub does not run as root: run everybody under the hub's own uid, each with a home of her own. "
        "There is no isolation then: everybody can read everybody's files. False refuses such accounts.",
    ).tag(config=True)

    no_new_privs = Bool(
        True,
        help="Set no_new_privs on servers: sudo, su and other set-uid programs have no effect inside. True, because a "
        "server should never become more than its account. False where people need such programs (fusermount).",
    ).tag(config=True)

    env_keep = List(
        Unicode(),
        ["PATH", "LANG", "LC_ALL", "TZ"],
        help="Names of variables that servers get from the hub's own environment; nothing else is handed on. An empty "
        "list: none at all.",
    ).tag(config=True)

    stop_grace_s = Float(
        20.0,
        min=0,
        help="How long a server may take to end by itself after SIGTERM, in seconds, before it is killed; never more "
        "than what the caller leaves. 20 lets kernels save. 0: killed at once.",
    ).tag(config=True)

    @default("runtime_dir")
    def _default_runtime_dir(self) -> str:
        if os.geteuid() == 0:
            return "/var/lib/daas-hub/run"
        return os.path.expanduser("~/.local/state/daas-hub/run")

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._watches: dict[str, Watch] = {}

    @property
    def _root(self) -> Path:
        return Path(self.runtime_dir) / self.hub_id

    def _folder(self, launch_id: str) -> LaunchFolder:
        return LaunchFolder(self._root, launch_id)

    async def capacity(self) -> Sequence[Capacity]:
        return [Capacity(backend=self.name, as_of=datetime.now(UTC))]

    async def prepare(self, spec: LaunchSpec) -> None:
        self._ids(spec)

    def _ids(self, spec: LaunchSpec) -> tuple[int, int, list[int]]:
        account, own = spec.account, os.geteuid()
        if own == 0:
            return account.uid, account.gid, sorted({account.gid, *(group.gid for group in account.groups)})
        if account.uid != own and not self.allow_shared_uid:
            raise AccountRefused(
                f"This hub runs as uid {own} and can start servers for that uid only; your account has uid "
                f"{account.uid}. Ask the administrator.",
                reason="not_root",
            )
        return own, os.getegid(), sorted(os.getgroups())

    async def start(self, spec: LaunchSpec, checkpoint: Checkpoint) -> str:
        uid, gid, groups = self._ids(spec)
        folder = self._folder(spec.launch_id)
        saved = await asyncio.to_thread(folder.saved)
        if saved is not None:
            return await self.resume(saved)
        await asyncio.to_thread(local_folder.make_root, self._root)
        await asyncio.to_thread(folder.make, uid, gid, spec.secrets)
        waiting = await asyncio.to_thread(local_spawn.spawn, folder.log)
        self._watches[spec.launch_id] = Watch(waiting.process, waiting.pidfd)
        try:
            port = local_probe.free_port()
            handle = self._handle(spec, waiting.process, port, uid)
            await asyncio.to_thread(folder.save, handle)
            await checkpoint(handle)
        except BaseException:
            waiting.abandon()
            raise
        report = await asyncio.to_thread(waiting.go, self._request(spec, port, uid, gid, groups, folder))
        if "error" in report:
            raise StartFailed(f"The server could not become {spec.account.name}: {report['error']}", permanent=True)
        return await self.resume(handle)

    def _handle(self, spec: LaunchSpec, process: ProcessId, port: int, uid: int) -> Handle:
        return {
            "backend": self.name,
            "version": 1,
            "launch_id": spec.launch_id,
            "boot_id": process.boot_id,
            "pid": process.pid,
            "start_time": process.start_time,
            "uid": uid,
            "port": port,
            "service_prefix": spec.service_prefix,
            "dir": str(self._folder(spec.launch_id).path),
        }

    def _request(
        self, spec: LaunchSpec, port: int, uid: int, gid: int, groups: list[int], folder: LaunchFolder
    ) -> Json:
        account = spec.account
        kept = {name: os.environ[name] for name in self.env_keep if name in os.environ}
        env = {
            "PATH": os.defpath,
            **kept,
            **spec.environment,
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
            "JUPYTERHUB_SERVICE_URL": f"http://{local_probe.HOST}:{port}{spec.service_prefix}",
        }
        return {
            "uid": uid,
            "gid": gid,
            "groups": groups,
            "floor": self.min_uid if os.geteuid() == 0 else 1,
            "umask": 0o022,
            "no_new_privs": self.no_new_privs,
            "cwd": account.home,
            "argv": list(spec.cmd),
            "env": env,
            "secrets": str(folder.secrets),
        }

    async def resume(self, handle: Handle) -> str:
        ended = asyncio.ensure_future(self.wait_ended(handle))
        try:
            while not ended.done():
                if await local_probe.answers(handle["port"], f"{handle['service_prefix']}api"):
                    return f"http://{local_probe.HOST}:{handle['port']}"
                await asyncio.wait({ended}, timeout=0.1)
        finally:
            ended.cancel()
        tail = await asyncio.to_thread(self._folder(handle["launch_id"]).tail)
        raise StartFailed("The server ended before it answered.", permanent=False, log_message=tail)

    async def inspect(self, handle: Handle) -> Observation:
        try:
            alive = await asyncio.to_thread(processes.alive, process_of(handle))
        except (OSError, KeyError) as error:
            return Observation(Life.UNKNOWN, reason=str(error))
        return Observation(Life.RUNNING) if alive else Observation(Life.ENDED, reason="its process is gone")

    async def wait_ended(self, handle: Handle) -> Observation:
        watched = self._watches.get(handle["launch_id"])
        if watched is None:
            watched = await watch(process_of(handle))
            if watched is None:
                return Observation(Life.ENDED, reason="its process is gone")
            watched = self._watches.setdefault(handle["launch_id"], watched)
        code = await asyncio.shield(watched.ended)
        return Observation(Life.ENDED, exit_code=code, reason="" if code is None else f"exit status {code}")

    async def stop(self, handle: Handle, *, within_s: float) -> Observation:
        process = process_of(handle)
        grace = min(self.stop_grace_s, within_s / 2)
        for number, wait_s in ((signal.SIGTERM, grace), (signal.SIGKILL, within_s - grace)):
            await asyncio.to_thread(processes.send, process, number)
            try:
                return await asyncio.wait_for(self.wait_ended(handle), wait_s)
            except TimeoutError:
                continue
        return Observation(Life.RUNNING, reason="it does not end, even by SIGKILL")

    async def events(self, handle: Handle) -> AsyncIterator[Event]:
        for event in ():
            yield event

    async def find(self) -> Sequence[Found]:
        found = []
        for folder in await asyncio.to_thread(lambda: list(local_folder.all_of(self._root))):
            handle = await asyncio.to_thread(folder.saved)
            if handle is not None and (await self.inspect(handle)).life is Life.RUNNING:
                found.append(Found(handle["launch_id"], handle, handle["uid"], None))
        return found

    async def cleanup(self, handle: Handle) -> None:
        self._watches.pop(handle["launch_id"], None)
        await asyncio.to_thread(self._folder(handle["launch_id"]).remove)

    async def close(self) -> None:
        for watched in self._watches.values():
            watched.close()
