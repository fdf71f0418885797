"""Control groups: one per server, for its limits and so that nothing of it can be left behind.

Three ways, in this order: systemd makes a scope for us where it runs (``clients/systemd.py``); cgroup v2; cgroup v1.
``detect`` says which, or why none. A group is a tuple of folders (v2: one, v1: one for each controller; systemd: the
scope's, then its slice's), which is what handles record. Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import processes, systemd

SELF_LEAF = "daas-hub-self"
"""Where the processes that were in our own v2 group go: a group with controllers may hold none itself."""
CPU_PERIOD_US = 100_000
LOOK_EVERY_S = 0.02
MAKE_ATTEMPTS = 3


@dataclass(frozen=True)
class Limits:
    """Of one server. None: no limit."""

    cores: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None

    def cpu_quota_us(self) -> int | None:
        """CPU time in each period; the kernel takes no less than 1 ms."""
        return None if self.cores is None else max(1000, round(self.cores * CPU_PERIOD_US))


@dataclass(frozen=True)
class Place:
    """Where groups can be made on this machine. ``kind`` is ``v1``, ``v2``, ``systemd`` or ``none``."""

    kind: str
    bases: tuple[Path, ...] = ()
    reason: str = ""
    """Why limits, or some of them, cannot be enforced here; empty: all are."""
    words: tuple[str, ...] = ()
    """What this machine's systemd takes for a scope beyond limits."""

    @property
    def enforces(self) -> bool:
        """Whether CPU and memory limits hold here."""
        return not self.reason


# ---------------------------------------------------------------- where


@dataclass(frozen=True)
class Mounted:
    """One cgroup file system and our own place in it."""

    controllers: frozenset[str]
    """Of a v1 hierarchy; empty for v2."""
    version: int
    own: Path


def mounted(mountinfo: str, own: str) -> list[Mounted]:
    """The cgroup file systems of ``/proc/self/mountinfo`` with our place by ``/proc/self/cgroup``. Pure."""
    places = {}
    for line in own.splitlines():
        number, names, path = line.split(":", 2)
        places[frozenset() if number == "0" else frozenset(names.split(","))] = path
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        root, point = (text.replace("\\040", " ") for text in head.split(" ")[3:5])
        wanted: frozenset[str] | None = frozenset()
        if kind == "cgroup":
            wanted = next(
                (names for names in places if names and names <= set(options.split(" ")[-1].split(","))), None
            )
        elif kind != "cgroup2":
            continue
        if wanted is None or wanted not in places:
            continue
        path = places[wanted]
        # In a container without a cgroup namespace the mount shows only the part below `root`.
        inside = path.removeprefix(root) if root != "/" and path.startswith(root) else path
        inside = "" if inside.startswith("/..") else inside.strip("/")
        found.append(Mounted(wanted, 2 if kind == "cgroup2" else 1, Path(point) / inside))
    return found


def detect(
    family: str,
    *,
    systemd_folder: Path = Path("/run/systemd/system"),
    mountinfo: Path = Path("/proc/self/mountinfo"),
    own: Path = Path("/proc/self/cgroup"),
) -> Place:
    """Find where this process may make groups, and make there the folder ``family`` of all its groups.

    May move the processes of our own v2 group into a leaf. Never raises for what the machine lacks.
    """
    why = []
    if systemd.runs(systemd_folder):
        words, refused = systemd.known()
        if words is not None:
            return Place("systemd", words=words)
        why.append(refused)
    try:
        here = mounted(mountinfo.read_text(), own.read_text())
    except (OSError, ValueError) as error:
        return Place("none", reason=f"cgroups cannot be read: {error}")
    unified = next((place for place in here if place.version == 2), None)
    if unified is not None and {"cpu", "memory"} <= controllers(unified.own):
        try:
            return Place("v2", (open_v2(unified.own, family, {"cpu", "memory"}),))
        except OSError as error:
            why.append(f"cgroup v2 at {unified.own}: {error.strerror}")
    bases = {name: place.own for place in here if place.version == 1 for name in place.controllers}
    if {"cpu", "memory"} <= bases.keys():
        try:
            return Place("v1", tuple(open_v1(bases[name], family) for name in V1_CONTROLLERS if name in bases))
        except OSError as error:
            why.append(f"cgroup v1 at {error.filename}: {error.strerror}")
    return Place("none", reason="; ".join(why) or "no cgroup file system with the cpu and memory controllers")


def look(
    *,
    systemd_folder: Path = Path("/run/systemd/system"),
    mountinfo: Path = Path("/proc/self/mountinfo"),
    own: Path = Path("/proc/self/cgroup"),
) -> Place:
    """What ``detect`` would find, told without making a folder or moving a process: ``bases`` are our own groups."""
    if systemd.runs(systemd_folder):
        return Place("systemd")
    try:
        here = mounted(mountinfo.read_text(), own.read_text())
    except (OSError, ValueError) as error:
        return Place("none", reason=f"cgroups cannot be read: {error}")
    bases = {name: place.own for place in here if place.version == 1 for name in place.controllers}
    wanted = [
        ("v2", tuple(p.own for p in here if p.version == 2 and {"cpu", "memory"} <= controllers(p.own))[:1]),
        ("v1", tuple(bases[n] for n in V1_CONTROLLERS if n in bases) if {"cpu", "memory"} <= bases.keys() else ()),
    ]
    why = []
    for kind, groups in wanted:
        closed = next((group for group in groups if not os.access(group, os.W_OK | os.X_OK)), None)
        if groups and closed is None:
            return Place(kind, groups)
        if closed is not None:
            why.append(f"cgroup {kind} at {closed} cannot be written")
    return Place("none", reason="; ".join(why) or "no cgroup file system with the cpu and memory controllers")


def controllers(group: Path) -> set[str]:
    """The v2 controllers that a group may hand to its children."""
    try:
        return set((group / "cgroup.controllers").read_text().split())
    except OSError:
        return set()


V1_CONTROLLERS = ("memory", "cpu", "pids")


def open_v1(own: Path, family: str) -> Path:
    """Our folder below our own group of one v1 hierarchy."""
    base = own / family
    base.mkdir(exist_ok=True, mode=0o755)
    return base


def open_v2(own: Path, family: str, wanted: set[str]) -> Path:
    """Our folder in the v2 hierarchy, with the wanted controllers handed down to it and to its groups."""
    home = own.parent if own.name == SELF_LEAF else own
    handed = wanted | ({"pids"} & controllers(home))
    if (home / "cgroup.type").exists():
        # Not the root of the hierarchy: it must hold no process itself before controllers can be handed down.
        move_all(home, home / SELF_LEAF)
    base = home / family
    base.mkdir(exist_ok=True, mode=0o755)
    for group in (home, base):
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(handed)))
    return base


def move_all(source: Path, target: Path, *, rounds: int = 10) -> None:
    """Move every process of one v2 group into another; raises OSError(EBUSY) where some stay."""
    target.mkdir(exist_ok=True, mode=0o755)
    for _ in range(rounds):
        pids = members((str(source),))
        if not pids:
            return
        for pid in pids:
            try:
                (target / "cgroup.procs").write_text(str(pid))
            except ProcessLookupError:
                continue
    raise OSError(errno.EBUSY, "processes stay in it", str(source))


# ---------------------------------------------------------------- one group


def make(place: Place, name: str, limits: Limits) -> tuple[str, ...]:
    """A group with these limits; raises OSError. Made anew it has the limits that were asked for last."""
    groups = [_make_below(place.kind, base, name) for base in place.bases]
    for group in groups:
        for file, value in (v1_settings if place.kind == "v1" else v2_settings)(limits):
            if (group / file).exists():
                (group / file).write_text(value)
    return tuple(str(group) for group in groups)


def _make_below(kind: str, base: Path, name: str) -> Path:
    """A group in our folder; the folder goes with its last group, so it may have to be made again."""
    for attempt in range(1, MAKE_ATTEMPTS + 1):
        try:
            (base / name).mkdir(exist_ok=True, mode=0o755)
            break
        except FileNotFoundError:
            if attempt == MAKE_ATTEMPTS:
                raise
            base.mkdir(exist_ok=True, mode=0o755)
            if kind == "v2":
                handed_down = (base.parent / "cgroup.subtree_control").read_text().split()
                (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in handed_down))
    return base / name


def v1_settings(limits: Limits) -> list[tuple[str, str]]:
    """Files and values of v1, in the order in which they must be written. Pure."""
    settings = []
    if limits.memory_bytes is not None:
        settings += [("memory.limit_in_bytes", str(limits.memory_bytes))]
        settings += [("memory.memsw.limit_in_bytes", str(limits.memory_bytes))]
    if (quota := limits.cpu_quota_us()) is not None:
        settings += [("cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu.cfs_quota_us", str(quota))]
    if limits.processes is not None:
        settings += [("pids.max", str(limits.processes))]
    return settings


def v2_settings(limits: Limits) -> list[tuple[str, str]]:
    """Files and values of v2. Pure."""
    settings = []
    if limits.memory_bytes is not None:
        settings += [("memory.max", str(limits.memory_bytes)), ("memory.swap.max", "0")]
    if (quota := limits.cpu_quota_us()) is not None:
        settings += [("cpu.max", f"{quota} {CPU_PERIOD_US}")]
    if limits.processes is not None:
        settings += [("pids.max", str(limits.processes))]
    return settings


def groups_of(pid: int, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> tuple[str, ...]:
    """The folders of the groups that a process is in (what systemd made for us)."""
    own = (processes.PROC / str(pid) / "cgroup").read_text()
    return tuple(str(place.own) for place in mounted(mountinfo.read_text(), own))


def add(groups: Sequence[str], pid: int) -> None:
    """Put a process into a group; its descendants follow."""
    for group in groups:
        (Path(group) / "cgroup.procs").write_text(str(pid))


def members(groups: Sequence[str]) -> set[int]:
    """The pids in a group; a group that is gone has none."""
    pids: set[int] = set()
    for group in groups:
        try:
            pids |= {int(line) for line in (Path(group) / "cgroup.procs").read_text().split()}
        except (FileNotFoundError, OSError) as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:
                raise
    return pids


def kill(groups: Sequence[str], *, within_s: float) -> bool:
    """Kill everything in a group, what it forks meanwhile too; True once nothing is left."""
    deadline = time.monotonic() + within_s
    while pids := members(groups):
        for pid in pids:
            _kill_member(groups, pid)
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _kill_member(groups: Sequence[str], pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Only after the descriptor is open does the question make sense: is the one it stands for a member?
        if pid in members(groups):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def oom_kills(groups: Sequence[str]) -> int:
    """How many processes of a group the kernel has killed because its memory limit was reached."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            try:
                lines = (Path(group) / name).read_text().splitlines()
            except OSError:
                continue
            return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return 0


def remove(groups: Sequence[str], *, within_s: float = 2.0) -> bool:
    """Remove an empty group; the kernel needs a moment after the last process. False where it stays."""
    deadline = time.monotonic() + within_s
    for group in groups:
        while True:
            try:
                os.rmdir(group)
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(LOOK_EVERY_S)
            else:
                break
    return True
