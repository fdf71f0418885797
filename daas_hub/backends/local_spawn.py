"""The helpers, seen from the hub: spawned waiting, let go by one line of JSON, answering with one line.

``clients/run_as.py`` becomes the account and its program; ``clients/home_tasks.py`` works in homes. Both end by
themselves when the hub dies before it has let them go.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from daas_hub.clients import home_tasks, processes, run_as
from daas_hub.core.models import Json

from .local_watch import Watch

RUN_AS = Path(run_as.__file__)
HOME_TASKS = Path(home_tasks.__file__)
MAX_REPORT_BYTES = 2**20
_DEFAULTS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class Waiting:
    """A helper that waits for its permission. Exactly one of ``go`` and ``abandon`` is called, once."""

    def __init__(self, process: processes.ProcessId, pidfd: int, go_fd: int, report_fd: int) -> None:
        self.process = process
        self.pidfd = pidfd
        """Belongs to whoever watches the process."""
        self._go_fd = go_fd
        self._report_fd = report_fd

    async def go(self, request: Json) -> Json:
        """Let it run; its report, once it has become the program, has done its task, has failed or was ``killed``.

        A cancellation leaves it running: what was let go is stopped through its handle.
        """
        loop = asyncio.get_running_loop()
        report = asyncio.StreamReader(limit=MAX_REPORT_BYTES)
        pipe = os.fdopen(self._report_fd, "rb", buffering=0)
        # From here on the thread owns the descriptor: it closes it, cancelled or not.
        permitted = loop.run_in_executor(None, self._permit, request)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(report), pipe)
        try:
            await permitted
            lines = (await report.read()).splitlines()
        finally:
            transport.close()
        # No line: it was killed on the way. Two lines: exec itself failed after the first.
        answer: Json = json.loads(lines[-1]) if lines else {"killed": True}
        return answer

    def _permit(self, request: Json) -> None:
        with os.fdopen(self._go_fd, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(request).encode() + b"\n")

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


def spawn(helper: Path, log: Path, *, prefix: Sequence[str] = ()) -> Waiting:
    """Start a helper that prints to ``log``; ``prefix`` stands before its argv (systemd-run). Blocks: use a thread.

    posix_spawn, not fork: the hub has threads. Nothing of the hub's environment is handed on.
    """
    log_fd = _above(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    go_read, go_write = map(_above, os.pipe())
    report_read, report_write = map(_above, os.pipe())
    argv = [*prefix, sys.executable, "-I", "-S", str(helper)]
    actions = [
        (os.POSIX_SPAWN_DUP2, go_read, 0),
        (os.POSIX_SPAWN_DUP2, log_fd, 1),
        (os.POSIX_SPAWN_DUP2, log_fd, 2),
        (os.POSIX_SPAWN_DUP2, report_write, run_as.REPORT_FD),
    ]
    try:
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        # What the hub ignores or blocks, its servers must not.
        pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions, setsigmask=[], setsigdef=_DEFAULTS)
    except BaseException:
        os.close(go_write)
        os.close(report_read)
        raise
    finally:
        for fd in (log_fd, go_read, report_write):
            os.close(fd)
    # It is our child and nobody else collects it: the number cannot be used again before we do.
    process = processes.identify(pid)
    if process is None:
        raise ProcessLookupError(f"the helper with pid {pid} was collected by somebody else")
    return Waiting(process, os.pidfd_open(pid), go_write, report_read)


async def whole(call: asyncio.Future[Waiting]) -> Waiting:
    """Wait for a spawn; a cancellation meanwhile leaves nothing that runs or waits."""
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        waiting = await call
        waiting.abandon()
        Watch(waiting.process, waiting.pidfd)
        raise


async def start(helper: Path, log: Path, *, prefix: Sequence[str] = ()) -> Waiting:
    """``spawn`` without blocking the loop."""
    return await whole(asyncio.ensure_future(asyncio.to_thread(spawn, helper, log, prefix=prefix)))


async def home_task(task: Json, log: Path, *, within_s: float) -> Json:
    """Do one of ``home_tasks``; raises TimeoutError where the home does not answer (it is then left behind, killed)."""
    waiting = await start(HOME_TASKS, log)
    watch = Watch(waiting.process, waiting.pidfd)
    try:
        async with asyncio.timeout(within_s):
            report = await waiting.go(task)
            await asyncio.shield(watch.ended)
            return report
    except BaseException:
        # A process that hangs in the kernel dies when the home answers; the watch collects it then.
        await asyncio.to_thread(processes.send, waiting.process, signal.SIGKILL)
        raise
