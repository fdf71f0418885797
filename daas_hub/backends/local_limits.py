"""CPU and memory limits on this machine: one cgroup per server, or the reason why there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from daas_hub.clients import cgroups, processes, systemd
from daas_hub.clients.cgroups import Limits, Place
from daas_hub.clients.processes import ProcessId
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Json, Resources

from .local_watch import in_thread

NOT_HERE = "limits not enforced here"
SCOPE_WITHIN_S = 10.0


@dataclass(frozen=True)
class Held:
    """How the limits of one server are held."""

    groups: tuple[str, ...] = ()
    reason: str = ""
    """Why limits are not enforced; empty: they are."""

    def facts(self) -> Json:
        """For the handle."""
        note = f"{NOT_HERE}: {self.reason}" if self.reason else ""
        return {"groups": list(self.groups), "enforces_limits": not self.reason, "limits_note": note}


class Limiter:
    """Finds out once how limits can be held, then puts servers into groups."""

    def __init__(self, hub_id: str, log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        self.family = f"daas-{hub_id}"
        self.log = log
        self._place: Place | None = None
        self._lock = asyncio.Lock()

    async def place(self) -> Place:
        """Where groups are made on this machine; found out at the first call and then kept."""
        async with self._lock:
            if self._place is None:
                self._place = await asyncio.to_thread(self._detect)
                if self._place.reason:
                    self.log.warning("CPU and memory %s: %s", NOT_HERE, self._place.reason)
            return self._place

    def _detect(self) -> Place:
        place = cgroups.detect(self.family)
        # What is written here is nothing unless it can also be given to a process.
        if place.kind in {"v1", "v2"} and not all(os.access(base / "cgroup.procs", os.W_OK) for base in place.bases):
            return Place("none", reason=f"{place.bases[0]} cannot be written")
        return place

    async def prefix(self, launch_id: str, limits: Limits) -> tuple[str, ...]:
        """Words before the helper's command: systemd-run's, where systemd makes the groups."""
        place = await self.place()
        if place.kind != "systemd":
            return ()
        inside = systemd.slice_name(self.family, launch_id)
        return systemd.scope(self._unit(launch_id), inside, **asdict(limits), words=place.words)

    def _unit(self, launch_id: str) -> str:
        return f"{self.family}-{launch_id}.scope"

    async def hold(self, launch_id: str, process: ProcessId, limits: Limits) -> Held:
        """Put a waiting helper, and so all that it becomes, under its limits; why they do not hold is a value.

        Raises BackendUnavailable where the helper itself was never started (systemd-run failed).
        """
        place = await self.place()
        try:
            if place.kind == "systemd":
                return await self._scope_of(launch_id, process)
            if place.kind == "none":
                return Held(reason=place.reason)
            return await in_thread(self._make, place, launch_id, process, limits)
        except OSError as error:
            self.log.warning("Launch %s is not held to its limits: %s", launch_id, error)
            # What could be made is kept: it still tells what belongs to the server.
            made = await in_thread(_existing, await self.groups(launch_id))
            return Held(made, reason=f"{error.strerror} ({error.filename})")

    def _make(self, place: Place, launch_id: str, process: ProcessId, limits: Limits) -> Held:
        groups = cgroups.make(place, launch_id, limits)
        cgroups.add(groups, process.pid)
        return Held(groups)

    async def groups(self, launch_id: str) -> tuple[str, ...]:
        """The groups that a launch has, or would have; none where systemd makes them."""
        return tuple(str(base / launch_id) for base in (await self.place()).bases)

    async def _scope_of(self, launch_id: str, process: ProcessId) -> Held:
        """The groups of the scope that systemd-run has put our helper into before it became the helper.

        Those of its slice come after them: they tell how it ended when systemd has removed the scope.
        """
        unit, inside = self._unit(launch_id), systemd.slice_name(self.family, launch_id)
        try:
            async with asyncio.timeout(SCOPE_WITHIN_S):
                while await in_thread(processes.alive, process):
                    with contextlib.suppress(FileNotFoundError):
                        seen = await in_thread(cgroups.groups_of, process.pid)
                        if groups := tuple(group for group in seen if group.endswith(f"/{inside}/{unit}")):
                            return Held((*groups, *(str(Path(group).parent) for group in groups)))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return Held(reason=f"systemd did not make a scope within {SCOPE_WITHIN_S:g} s")
        raise BackendUnavailable(
            "This machine cannot start servers just now. Please tell the administrator.",
            log_message=f"systemd-run ended before it had made {unit}",
        )

    async def undo(self, launch_id: str) -> None:
        """Remove the groups of a launch that never had a handle."""
        if (await self.place()).kind == "systemd":
            await in_thread(systemd.stop, systemd.slice_name(self.family, launch_id))
        await in_thread(self.remove, await self.groups(launch_id))

    def remove(self, groups: Sequence[str]) -> bool:
        """Remove the groups of an ended launch, and our folder above them after the last one. Blocks."""
        for unit in {Path(group).name for group in groups if group.endswith(".slice")}:
            systemd.stop(unit)
        gone = cgroups.remove(groups)
        for family in {Path(group).parent for group in groups}:
            if family.name == self.family:
                with contextlib.suppress(OSError):
                    family.rmdir()
        return gone


def _existing(groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(group for group in groups if os.path.isdir(group))


def limits_of(resources: Resources, max_processes: int) -> Limits:
    """What a launch's resources say, in the form of cgroups."""
    limits = Limits(cores=resources.cpu_limit, memory_bytes=resources.mem_limit_bytes)
    return replace(limits, processes=max_processes) if max_processes else limits
