"""Processes of this machine, told apart for certain: boot id, pid and start time (design.md §4.3).

A pid alone names nobody: it is used again. Whatever is signalled here goes through a pidfd that was checked after
it was opened, so that a process which took over the number is never hit. Functions block briefly (``/proc`` only);
call them in a thread.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """One process, for ever: no other process of any boot has the same three values."""

    boot_id: str
    pid: int
    start_time: int
    """Clock ticks from boot to its start: field 22 of ``/proc/<pid>/stat`` (proc(5))."""


@dataclass(frozen=True)
class Stat:
    """The few fields of ``/proc/<pid>/stat`` that matter here."""

    state: str
    """``Z`` and ``X``: it has ended and only waits to be collected."""
    session: int
    start_time: int

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in {"Z", "X", "x"}


def boot_id() -> str:
    """The id of this boot of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """What the kernel says about a pid; None where there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in brackets may itself contain brackets and blanks: everything after the last one counts.
    fields = text.rpartition(")")[2].split()
    return Stat(state=fields[0], session=int(fields[3]), start_time=int(fields[19]))


def identify(pid: int) -> ProcessId | None:
    """The full id of a living pid, or None."""
    seen = stat(pid)
    return None if seen is None else ProcessId(boot_id(), pid, seen.start_time)


def uid_of(pid: int) -> int | None:
    """The real uid of a process, or None where it is gone."""
    try:
        text = (PROC / str(pid) / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    line = next(line for line in text.splitlines() if line.startswith("Uid:"))
    return int(line.split()[1])


def alive(process: ProcessId) -> bool:
    """Whether exactly this process still runs; a zombie does not. Raises OSError where /proc cannot be read."""
    if process.boot_id != boot_id():
        return False
    seen = stat(process.pid)
    return seen is not None and seen.start_time == process.start_time and not seen.ended


def open_pidfd(process: ProcessId) -> int | None:
    """A pidfd of exactly this process, or None where it is gone. A zombie still has one. The caller closes it."""
    if process.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except (ProcessLookupError, OverflowError):
        return None
    # Checked after opening: if the number was taken over before, the start time differs; later it cannot matter.
    seen = stat(process.pid)
    if seen is None or seen.start_time != process.start_time:
        os.close(fd)
        return None
    return fd


@contextmanager
def pidfd(process: ProcessId) -> Iterator[int | None]:
    """``open_pidfd`` for the length of a block."""
    fd = open_pidfd(process)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def has_ended(fd: int) -> bool:
    """Whether the process of a pidfd has ended; never blocks."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def send(process: ProcessId, number: int) -> bool:
    """Signal exactly this process; False where it is gone."""
    with pidfd(process) as fd:
        if fd is None:
            return False
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        return True


def collect(fd: int) -> int | None:
    """The exit status of an ended child (negative: the signal, as subprocess has it), None of anybody else's."""
    try:
        result = os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def with_environment(name: str, value: str, uid: int) -> list[ProcessId]:
    """Processes of ``uid`` whose environment at their start held ``name=value``.

    Finds what a server left behind where there is no cgroup. A user can hide her own processes from it, never put
    somebody else's into it.
    """
    wanted = f"{name}={value}".encode()
    here, found = boot_id(), []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if entry.stat().st_uid != uid or wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
        except OSError:
            continue
        seen = stat(int(entry.name))
        if seen is not None and not seen.ended:
            found.append(ProcessId(here, int(entry.name), seen.start_time))
    return found


def waits_for(pid: int) -> str:
    """What a process and those that it started are at just now: each one's name, pid, state and place in the kernel.

    The state is that of proc(5): ``S`` waits for somebody, ``D`` for a disk. The place is only told to who may trace
    the process. Empty where there is no such process.
    """
    names: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        names[int(entry.name)] = f"{name} {entry.name} {state}"
        children.setdefault(int(parent), []).append(int(entry.name))
    family = [pid] if pid in names else []
    for one in family:
        family += children.get(one, [])
    return ", ".join(f"{names[one]} {place_of(one)}".rstrip() for one in family)


def place_of(pid: int) -> str:
    """The function of the kernel in which a process sleeps; empty where it sleeps in none, or we may not know."""
    try:
        return (PROC / str(pid) / "wchan").read_text().strip().removeprefix("0")
    except OSError:
        return ""


def started_at(process: ProcessId) -> datetime | None:
    """When a process of this boot was started (grain: 10 ms), or None."""
    if process.boot_id != boot_id():
        return None
    line = next(line for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime "))
    seconds = process.start_time / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(int(line.split()[1]) + seconds, UTC)


def listener_uid(port: int, host: str = "127.0.0.1") -> int | None:
    """The uid whose process is reached at this TCP port of an IPv4 address of this machine; None: nobody listens."""
    # The kernel prints the address as one number in the machine's own byte order.
    own = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}"
    # Who listens on the address itself is reached, not who listens on all of them.
    for name, addresses in (("net/tcp", (own,)), ("net/tcp", ("0" * 8,)), ("net/tcp6", ("0" * 32,))):
        try:
            lines = (PROC / name).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            # 0A is TCP_LISTEN (include/net/tcp_states.h).
            if fields[3] == "0A" and int(number, 16) == port and address in addresses:
                return int(fields[7])
    return None
