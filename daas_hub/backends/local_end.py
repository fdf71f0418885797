"""How servers of this machine end: seen at once, told apart from "cannot be told", and brought about."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import replace

from daas_hub.clients import cgroups, processes
from daas_hub.clients.processes import ProcessId
from daas_hub.core.models import Handle, Life, Observation

from .local_folder import LaunchFolder
from .local_launch import MARK, groups_of, how_it_ended, process_of
from .local_watch import Watch, watch

SETTLE_WITHIN_S = 2.0
"""From the end of a process to our own conclusion about it."""
KILL_WITHIN_S = 10.0
GRACE_SHARE = 2 / 3
LOOK_EVERY_S = 0.05


class Ends:
    """The watches and conclusions of one backend instance."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}
        self._conclusions: dict[str, asyncio.Task[Observation]] = {}
        self._stopping: set[str] = set()

    def watch(self, launch_id: str, process: ProcessId, pidfd: int) -> None:
        """Watch a child; an earlier one of the same launch has ended or is collected by its own watch."""
        self._watches[launch_id] = Watch(process, pidfd)
        self._conclusions.pop(launch_id, None)

    def expect(self, handle: Handle) -> asyncio.Task[Observation]:
        """Conclude as soon as the watched process of this handle ends."""
        launch_id = handle["launch_id"]
        task = self._conclusions.get(launch_id)
        if task is None:
            task = asyncio.create_task(self._conclude(handle, self._watches[launch_id]))
            self._conclusions[launch_id] = task
        return task

    async def _conclude(self, handle: Handle, watched: Watch) -> Observation:
        code = await watched.ended
        asked_for = handle["launch_id"] in self._stopping
        return await asyncio.to_thread(self._evidence, handle, code, asked_for)

    def _evidence(self, handle: Handle, code: int | None, asked_for: bool) -> Observation:
        oom_kills = 0 if asked_for else cgroups.oom_kills(groups_of(handle))
        reason = how_it_ended(code, oom_kills=oom_kills, memory_limit_bytes=handle.get("memory_bytes"))
        seen = Observation(Life.ENDED, code, reason)
        if code is not None:
            self._save(handle, seen)
        return seen

    def _save(self, handle: Handle, seen: Observation) -> None:
        """Only its parent learns the status: the reconciler reads it here, unless it has cleaned up already."""
        with contextlib.suppress(FileNotFoundError):
            end = {"exit_code": seen.exit_code, "reason": seen.reason, "pid": handle["pid"]}
            LaunchFolder.of(handle).save("end", end)

    async def explain(self, handle: Handle, why: str) -> None:
        """Let ``why`` be the reason of an end that is there or comes at once: a helper said more than its status."""
        seen = replace(await self.expect(handle), reason=why)
        await asyncio.to_thread(self._save, handle, seen)
        self._conclusions[handle["launch_id"]] = asyncio.create_task(_known(seen))

    # ------------------------------------------------------------ look

    async def inspect(self, handle: Handle) -> Observation:
        """One look; never raises."""
        try:
            conclusion = self._conclusions.get(handle["launch_id"])
            process = process_of(handle)
            if conclusion is None or self._watches[handle["launch_id"]].process != process:
                return await asyncio.to_thread(self._look, handle, process)
            if await asyncio.to_thread(processes.alive, process):
                return Observation(Life.RUNNING)
            return await asyncio.wait_for(asyncio.shield(conclusion), SETTLE_WITHIN_S)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return Observation(Life.UNKNOWN, reason=f"{type(error).__name__}: {error}")

    def _look(self, handle: Handle, process: ProcessId) -> Observation:
        if processes.alive(process):
            return Observation(Life.RUNNING)
        end = LaunchFolder.of(handle).saved("end")
        if end is not None and end.get("pid") == process.pid:
            return Observation(Life.ENDED, end["exit_code"], end["reason"])
        if process.boot_id != processes.boot_id():
            return Observation(Life.ENDED, reason="the machine was restarted")
        return self._evidence(handle, None, asked_for=False)

    async def wait(self, handle: Handle) -> Observation:
        """Return once it has ended. A handle that names no process is waited for without end: it cannot be told."""
        launch_id = handle["launch_id"]
        try:
            process = process_of(handle)
        except ValueError:
            await asyncio.get_running_loop().create_future()
            raise
        known = self._watches.get(launch_id)
        if known is None or known.process != process:
            found = await watch(process)
            if found is None:
                return await asyncio.to_thread(self._look, handle, process)
            if launch_id in self._watches and self._watches[launch_id].process == process:
                found.close()
            else:
                self._watches[launch_id] = found
                self._conclusions.pop(launch_id, None)
        return await asyncio.shield(self.expect(handle))

    # ------------------------------------------------------------ stop

    async def stop(self, handle: Handle, *, grace_s: float, within_s: float) -> Observation:
        """SIGTERM, then SIGKILL to all that is left; never raises."""
        deadline = time.monotonic() + within_s
        try:
            self._stopping.add(handle["launch_id"])
            process = process_of(handle)
            if grace_s > 0 and await asyncio.to_thread(processes.send, process, signal.SIGTERM):
                await self._ended_within(handle, min(grace_s, within_s * GRACE_SHARE))
            left_s = max(0.5, deadline - time.monotonic() - SETTLE_WITHIN_S)
            gone = await self.kill_rest(handle, within_s=left_s)
            seen = await self._ended_within(handle, max(0.1, deadline - time.monotonic()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return Observation(Life.UNKNOWN, reason=f"it could not be stopped: {type(error).__name__}: {error}")
        finally:
            self._stopping.discard(handle.get("launch_id", ""))
        if seen is None:
            return Observation(Life.RUNNING, reason="it does not end, even by SIGKILL")
        if not gone:
            return Observation(Life.RUNNING, seen.exit_code, "the server has ended, but processes of it do not end")
        return seen

    async def _ended_within(self, handle: Handle, within_s: float) -> Observation | None:
        try:
            return await asyncio.wait_for(self.wait(handle), within_s)
        except TimeoutError:
            return None

    async def kill_rest(self, handle: Handle, *, within_s: float = KILL_WITHIN_S) -> bool:
        """Kill the server and all it has started; True once nothing of it is left."""
        return await asyncio.to_thread(self._kill_rest, handle, within_s)

    def _kill_rest(self, handle: Handle, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        process = process_of(handle)
        if process.boot_id != processes.boot_id():
            return True
        processes.send(process, signal.SIGKILL)
        groups = groups_of(handle)
        if groups:
            return cgroups.kill(groups, within_s=max(0.1, deadline - time.monotonic()))
        while left := processes.with_environment(MARK, handle["launch_id"], handle["uid"]):
            for one in left:
                processes.send(one, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_EVERY_S)
        return True

    # ------------------------------------------------------------ forget

    async def gone(self, launch_id: str) -> bool:
        """Whether a helper that was told to end does so at once."""
        waited_for = self._conclusions.get(launch_id) or self._watches[launch_id].ended
        done, _ = await asyncio.wait({waited_for}, timeout=SETTLE_WITHIN_S)
        return bool(done)

    def forget(self, launch_id: str) -> None:
        """Drop what is known of an ended launch; a process that still runs stays watched, so that it is collected."""
        watched = self._watches.get(launch_id)
        if watched is None or watched.ended.done():
            self._watches.pop(launch_id, None)
            self._conclusions.pop(launch_id, None)

    def close(self) -> None:
        """Stop watching; servers go on."""
        for task in self._conclusions.values():
            task.cancel()
        for watched in self._watches.values():
            watched.close()
        self._watches.clear()
        self._conclusions.clear()


async def _known(seen: Observation) -> Observation:
    return seen
