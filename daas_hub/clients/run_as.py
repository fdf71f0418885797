"""Become a user and exec her program: the one helper that does it. Standard library only; read it as a whole.

Run as ``python -I -S run_as.py`` by the hub, as root or as the user herself. It waits on standard input for one line
of JSON (see ``Request``): that line is the permission to go. End of input instead means that the hub died before it
could save what it had started: the helper ends and nothing is left behind. Descriptor 3 takes one line of JSON back,
``{"warnings": [...]}``, and ``{"error": "...", "not_executed": bool}`` where it failed; it closes at exec. Every step
is verified, and a step that fails ends the helper with status 78: no program ever runs with more than was asked for.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

Request = dict[str, Any]
"""uid, gid, groups, floor, umask, no_new_privs, cwd, argv, env; optional: secrets (path of a JSON object, 0600),
binds (list of [source, target])."""

REPORT_FD = 3
EX_CONFIG = 78
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """Raised when a step failed or its result is not what was asked for."""


class NotExecuted(Exception):
    """Raised when all went well until exec; the text names the program and what is wrong with it."""


def call(name: str, *args: Any) -> int:
    """A libc function that sets errno; raises OSError where it answers below zero."""
    result: int = getattr(libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with all five arguments, as the kernel wants the unused ones to be 0."""
    return call("prctl", *(ctypes.c_ulong(n) for n in (option, value, 0, 0, 0)))


def check_ids(request: Request) -> None:
    """The third layer that refuses root and system accounts (the others: resolving and admission)."""
    uid, gid, groups, floor = request["uid"], request["gid"], request["groups"], request["floor"]
    for number in (uid, gid, floor, *groups):
        if type(number) is not int or not 0 <= number < 2**32 - 1:
            raise Refused(f"{number!r} is not a uid or gid")
    if uid == 0 or gid == 0 or 0 in groups:
        raise Refused(f"uid {uid}, gid {gid} or one of the groups {groups} is root's")
    if uid < floor:
        raise Refused(f"uid {uid} is below the lowest one allowed, {floor}")


def bind_files(binds: list[list[str]]) -> list[str]:
    """Put files in the place of others, seen by this process and its descendants only; warnings where it cannot."""
    if not binds:
        return []
    try:
        call("unshare", CLONE_NEWNS)
        # Slave: mounts of the machine (automounted homes) still arrive here, ours never get out.
        call("mount", None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None)
        for source, target in binds:
            call("mount", os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(MS_BIND), None)
    except OSError as error:
        return [f"no_private_passwd: {error}"]
    return []


def drop_capability_bounds() -> None:
    """Nothing that is executed later can ever gain a capability."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for number in range(last + 1):
        prctl(PR_CAPBSET_DROP, number)
        if prctl(PR_CAPBSET_READ, number) != 0:
            raise Refused(f"capability {number} is still in the bounding set")


def become(request: Request) -> None:
    """setgroups, setgid, setuid, in this order, each verified; afterwards there must be no way back."""
    uid, gid, groups = request["uid"], request["gid"], request["groups"]
    check_ids(request)
    if os.geteuid() == 0:
        os.setgroups(groups)
        drop_capability_bounds()
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        if sorted(set(os.getgroups())) != sorted(set(groups)):
            raise Refused(f"the groups are {os.getgroups()}, not {groups}")
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise Refused(f"ids are {os.getresuid()} and {os.getresgid()}, not {uid} and {gid}")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    check_no_way_back()
    if request["no_new_privs"]:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        if prctl(PR_GET_NO_NEW_PRIVS) != 1:
            raise Refused("no_new_privs is not set")


def check_no_way_back() -> None:
    """setuid(0), setgid(0) and another group list must all be refused, and no capability may be left."""
    ways: list[tuple[Callable[[Any], None], Any]] = [(os.setuid, 0), (os.setgid, 0), (os.setgroups, [0])]
    for act, argument in ways:
        try:
            act(argument)
        except PermissionError:
            continue
        raise Refused("root's rights could be taken back")
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(("CapPrm:", "CapEff:", "CapInh:", "CapAmb:")) and int(line.split()[1], 16):
                raise Refused(f"a capability is left: {line.strip()}")


def read_secrets(path: str) -> dict[str, str]:
    """The variables that only the program may have; read as the user, then removed."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd) as file:
        if os.fstat(fd).st_mode & 0o077:
            raise Refused("the file of secrets can be read by others")
        secrets: dict[str, str] = json.load(file)
    os.unlink(path)
    return secrets


def give_up_protection() -> None:
    """A hub that is spared when memory runs out must not hand that on to what people run."""
    with open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < 0:
            file.write("0")


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """exec, a name without a slash looked up on the PATH that the program gets, as the user. Raises NotExecuted."""
    program = argv[0]
    folders = [""] if "/" in program else [f"{folder}/" for folder in env["PATH"].split(":")]
    problem = ""
    for folder in folders:
        try:
            os.execve(folder + program, argv, env)  # noqa: S606  an argv list, no shell: meant
        except (FileNotFoundError, NotADirectoryError):
            # There, but "not found": what its first line or its ELF header names is missing.
            if os.path.lexists(folder + program):
                problem = problem or f"{folder}{program} could not be run: its interpreter or link leads nowhere"
        except OSError as error:
            # A folder of the PATH that she may not enter says nothing about the program.
            if "/" in program or os.path.lexists(folder + program):
                problem = problem or f"{folder}{program} could not be run: {error.strerror}"
    where = "" if "/" in program else f" on the PATH {env['PATH']}"
    raise NotExecuted(problem or f"{program} was not found{where}")


def run(request: Request) -> NoReturn:
    """Everything between the permission to go and exec."""
    os.set_inheritable(REPORT_FD, False)
    if os.getsid(0) != os.getpid():
        os.setsid()
    warnings = bind_files(request.get("binds", []))
    give_up_protection()
    os.umask(request["umask"])
    become(request)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(request["cwd"])
    env = request["env"] | (read_secrets(request["secrets"]) if request.get("secrets") else {})
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.write(REPORT_FD, json.dumps({"warnings": warnings}).encode() + b"\n")
    execute(request["argv"], env)


def main() -> None:
    """Wait for the permission, then run; report what went wrong."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        sys.exit(0)
    try:
        run(json.loads(line))
    except Exception as error:
        known = isinstance(error, NotExecuted)
        report = {"error": str(error) if known else f"{type(error).__name__}: {error}", "not_executed": known}
        os.write(REPORT_FD, json.dumps(report).encode() + b"\n")
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
