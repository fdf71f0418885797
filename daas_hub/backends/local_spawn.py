"""The helper that becomes the user, seen from the hub: spawned stopped, let go by one line, answers with one line."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daas_hub.clients import processes, run_as
from daas_hub.core.models import Json

HELPER = Path(run_as.__file__)


@dataclass
class Waiting:
    """A helper that waits for its permission. Exactly one of ``go`` and ``abandon`` is called, once."""

    process: processes.ProcessId
    pidfd: int
    """Belongs to whoever watches the process from here on."""
    _go_fd: int
    _report_fd: int

    def go(self, request: Json) -> Json:
        """Let it run and return its report once it has become the program, or failed to. Blocks: use a thread."""
        try:
            with os.fdopen(self._go_fd, "wb") as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(json.dumps(request).encode() + b"\n")
        finally:
            with os.fdopen(self._report_fd, "rb") as pipe:
                lines = pipe.read(65536).splitlines()
        # No line at all: it was killed on the way. Two lines: exec itself failed after the first.
        report: Json = json.loads(lines[-1]) if lines else {"error": "the helper was ended before it could report"}
        return report

    def abandon(self) -> None:
        """Withdraw the permission: the helper ends by itself."""
        os.close(self._go_fd)
        os.close(self._report_fd)


def _above(fd: int) -> int:
    """The same file under a number that none of the helper's own four descriptors has."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    finally:
        os.close(fd)


def spawn(log: Path, *, prefix: Sequence[str] = ()) -> Waiting:
    """Start a helper, writing to ``log``; ``prefix`` stands before its argv (systemd-run). Blocks: use a thread.

    posix_spawn, not fork: the hub has threads. Nothing of the hub's environment is handed on.
    """
    log_fd = _above(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    go_read, go_write = map(_above, os.pipe())
    report_read, report_write = map(_above, os.pipe())
    argv = [*prefix, sys.executable, "-I", "-S", str(HELPER)]
    actions = [
        (os.POSIX_SPAWN_DUP2, go_read, 0),
        (os.POSIX_SPAWN_DUP2, log_fd, 1),
        (os.POSIX_SPAWN_DUP2, log_fd, 2),
        (os.POSIX_SPAWN_DUP2, report_write, run_as.REPORT_FD),
    ]
    try:
        pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, file_actions=actions)
    except BaseException:
        os.close(go_write)
        os.close(report_read)
        raise
    finally:
        for fd in (log_fd, go_read, report_write):
            os.close(fd)
    # It is our child and nobody else collects it: the number cannot be used again before we do.
    process = processes.identify(pid)
    assert process is not None
    return Waiting(process, os.pidfd_open(pid), go_write, report_read)
