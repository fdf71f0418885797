#!/usr/bin/python3 -IS
"""daas-runas: what a hub without rights may do on SLURM as somebody, by one line of sudoers. Read it as a whole.

``daas-runas submit|cancel|probe|hand NAME UID``, the rest as one JSON object on standard input (``SHAPE``, and
``files``: texts by name), which is read as the account and never as root. One JSON object comes back: what SLURM's
program said, or ``kind`` and ``error`` with status 1. Nothing is believed of the caller; root sets the bounds in
``SETTINGS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
from typing import Any

SETTINGS = "/etc/daas-hub/runas.json"
MAX_INPUT, MAX_LOG, MAX_SAID, MAX_LIFE_S = 1 << 20, 1 << 16, 4000, 330
FILE, ID, NUMBER = "(?!log$)[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", "[a-z0-9][a-z0-9-]{0,62}", "0|[1-9][0-9]{0,9}"
ARGV = f"(submit|cancel|probe|hand)\0[A-Za-z0-9_][A-Za-z0-9._@+-]{{0,63}}\0({NUMBER})"
SHAPE = {"hub": ID, "launch": ID, "job": NUMBER, "script": r"[^\0]*", "within_s": "[1-9][0-9]?|[12][0-9]{2}"}
KINDS = {"Refused": "account", "TimeoutExpired": "unsure", "FileExistsError": "exists", "RuntimeError": "helper"}


class Refused(Exception):
    """Raised when the account is not the one that was meant, or may not have jobs."""


def must(be_true: object, error: Exception) -> None:
    """Or else raise."""
    if not be_true:
        raise error


def opened(path: str, flags: int, at: int | None = None, others: int = 0o022) -> int:
    """Open what is ours (root's, later the account's) and nobody else's to write; no link is followed."""
    about = os.fstat(number := os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=at))
    ours = about.st_uid == os.getuid() and not about.st_mode & others
    must(ours, OSError(f"{path} is uid {about.st_uid}'s or others may write it; only uid {os.getuid()} may"))
    return number


def become(name: str, uid: int, min_uid: int, denied: set[str]) -> str:
    """The account as this host knows it, with all its groups, for good and verified; returns its home."""
    known_as, _, known_uid, gid, _, home, _ = pwd.getpwnam(name)
    groups = sorted({gid, *os.getgrouplist(known_as, gid)})
    must(known_uid == uid, Refused(f"{name} is uid {known_uid} on this host, not uid {uid}"))
    must(0 not in (uid, *groups), Refused(f"{name} has uid {uid} and the groups {groups}; 0 is root's"))
    must(uid >= min_uid, Refused(f"{name} has uid {uid}; {SETTINGS} allows none below {min_uid}"))
    must(not {name, known_as, pwd.getpwuid(uid).pw_name} & denied, Refused(f"{name} is denied by {SETTINGS}"))
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ids = os.getresuid(), os.getresgid(), sorted({*os.getgroups()})
    must(ids == ((uid,) * 3, (gid,) * 3, groups), RuntimeError(f"the ids are {ids}"))
    for back in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
        with contextlib.suppress(PermissionError):
            back()  # type: ignore[no-untyped-call]
            raise RuntimeError("root's rights could be taken back")
    return home


def act(verb: str, home: str, programs: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    """As the account: files, then SLURM's program. A folder that is there already is refused to ``submit``, ``hand``.

    ``hand`` makes the folder ``<launch>-<part>``, which is ``site_tokens`` in the launch's own from then on.
    """
    launch, answer = request["launch"], {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "home": home}
    argv = [programs["sbatch"], "--export=NONE", "--open-mode=append", f"--chdir={home}"]
    daas, log = f"{home}/.daas", f"{home}/.daas".replace("%", "%%")  # a % would be replaced by sbatch
    if verb in ("submit", "hand"):
        opened(os.path.realpath(home), os.O_DIRECTORY, others=0)
        # Another one that makes it in this moment is "exists", and this one is asked again.
        os.path.lexists(daas) or os.mkdir(daas, 0o700)  # type: ignore[func-returns-value]
        os.mkdir(launch, 0o700, dir_fd=(parent := opened(daas, os.O_DIRECTORY)))
        folder = opened(launch, os.O_DIRECTORY, parent)
        for name, text in (request["files"] | ({"log": ""} if verb == "submit" else {})).items():
            with open(opened(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder), "w", encoding="utf-8") as file:
                file.write(text)
        argv += ["--parsable", f"--comment=daas:{request['hub']}:{launch}", f"--output={log}/{launch}/log"]
        link = ["/bin/ln", "-sfT", f"../{launch}", f"{daas}/{launch.rpartition('-')[0]}/site_tokens"]
        argv = argv if verb == "submit" else link
    elif verb == "probe":
        with contextlib.suppress(FileNotFoundError):
            fd = opened("log", os.O_RDONLY, opened(launch, os.O_DIRECTORY, opened(daas, os.O_DIRECTORY)))
            answer["log"] = os.pread(fd, MAX_LOG, max(0, os.fstat(fd).st_size - MAX_LOG)).decode(errors="replace")
        argv = [*argv, "--test-only", "--output=/dev/null"] if request["script"] else []
    else:
        clean = ["/bin/rm", "-rf", "--", f"{daas}/{launch}"]
        argv = [programs["scancel"], request["job"]] if request["job"] != "0" else clean
    if argv:
        env, within_s = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": home}, int(request["within_s"])
        done = subprocess.run(argv, input=request["script"].encode(), capture_output=True, env=env, timeout=within_s)
        said, errors = (text[-MAX_SAID:].decode(errors="replace") for text in (done.stdout, done.stderr))
        answer |= {"status": done.returncode, "said": said, "errors": errors}
    return answer


def main(argv: list[str]) -> dict[str, Any]:
    """Leave all of the caller's behind, become the account, and only then read what is asked for."""
    os.environ.clear()
    os.chdir("/")
    os.umask(0o022)
    os.closerange(3, 1 + max(int(number) for number in os.listdir("/proc/self/fd")))
    _ = [signal.signal(n, signal.SIG_DFL) for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]
    signal.alarm(MAX_LIFE_S)
    must(os.getuid() == 0 and re.fullmatch(ARGV, "\0".join(argv)), RuntimeError("as root: VERB NAME UID"))
    folder, name = os.path.split(SETTINGS)
    bounds = json.loads(os.read(opened(name, os.O_RDONLY, opened(folder, os.O_DIRECTORY)), MAX_INPUT))
    programs = {word: bounds["programs"][word] for word in ("sbatch", "scancel")}
    proper = type(bounds["denied"]) is list and all(p[0] == "/" and os.access(p, os.X_OK) for p in programs.values())
    must(proper, ValueError(f"{SETTINGS}: denied is a list of names, programs are absolute paths of programs"))
    home = become(argv[1], int(argv[2]), int(bounds["min_uid"]), {*bounds["denied"]})
    must(len(text := sys.stdin.buffer.read(MAX_INPUT + 1)) <= MAX_INPUT, ValueError("standard input is too long"))
    request = json.loads(text)
    wrong = set(request) ^ {*SHAPE, "files"} or {key for key in SHAPE if not re.fullmatch(SHAPE[key], request[key])}
    wrong |= {k for k, v in request.get("files", {}).items() if not re.fullmatch(FILE, k) or type(v) is not str}
    must(not wrong, ValueError(f"missing, unknown or not as it must be: {sorted(wrong)}"))
    return act(argv[0], home, programs, request)


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1:])
    except Exception as error:
        kind = "helper" if not os.getuid() else "home" if isinstance(error, OSError) else "request"
        answer = {"kind": KINDS.get(type(error).__name__, kind), "error": str(error)}
    print(json.dumps(answer))
    sys.exit("kind" in answer)
