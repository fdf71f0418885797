"""One program of SLURM, run for its answer: no shell, a known environment, and an end in time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from daas_hub.core.errors import BackendUnavailable

from .slurm_said import WORDS, reason_of

TOLD_CHARACTERS = 500


@dataclass(frozen=True)
class Ran:
    """What a program said. ``code`` None: it was killed for its time."""

    code: int | None
    out: str
    err: str


class _Said(asyncio.SubprocessProtocol):
    """Keeps what a program complains of."""

    def __init__(self, over: asyncio.Event) -> None:
        self.errors = bytearray()
        self.exited, self.silent, self._over = asyncio.Event(), asyncio.Event(), over

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002  only errors come by a pipe
        self.errors += data

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It has exited, and nobody can complain any more."""
        self.silent.set()
        self._over.set()


async def run(argv: Sequence[str], environment: Mapping[str, str], *, within_s: float) -> Ran:
    """Run it; after ``within_s`` seconds, or when the caller is cancelled, it and its children are killed.

    When this returns or raises the program has ended. Raises OSError where it cannot be started. Bytes that are no
    UTF-8 are replaced.
    """
    over = asyncio.Event()
    # In a task of its own: who is cancelled while a program starts would leave what it has started by then.
    running = asyncio.create_task(_run(argv, environment, within_s, over))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        over.set()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()
        raise


async def _run(argv: Sequence[str], environment: Mapping[str, str], within_s: float, over: asyncio.Event) -> Ran:
    # A program writes 4 KiB at a time: by a pipe each would wake this loop, for a thousand jobs a hundred times. Into
    # a file in memory it writes without us, and is read once.
    with open(os.memfd_create("said"), "rb", buffering=0) as out:  # noqa: ASYNC230  it is in memory
        transport, said = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Said(over), *argv, stdin=asyncio.subprocess.DEVNULL, stdout=out, env=dict(environment), cwd="/",
            start_new_session=True,
        )  # fmt: skip
        code = await _ended(transport, said, within_s, over)
        out.seek(0)
        return Ran(code, out.read().decode(errors="replace"), said.errors.decode(errors="replace"))


async def _ended(
    transport: asyncio.SubprocessTransport, said: _Said, within_s: float, over: asyncio.Event
) -> int | None:
    """Its exit code; None: it was killed for its time."""
    code: int | None = None
    try:
        async with asyncio.timeout(within_s):
            await over.wait()
        code = transport.get_returncode()
    except TimeoutError:
        pass
    finally:
        if transport.get_returncode() is None:
            # It leads a group of its own.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await said.exited.wait()
        # Also what somebody who left the group still holds.
        transport.close()
        await said.silent.wait()
    return code


def unavailable(program: str, ran: Ran, reason: str | None = None) -> BackendUnavailable:
    """The error for an answer that is none; ``reason`` where the caller knows it."""
    reason = reason or reason_of(ran.err, ran.code)
    words = WORDS.get(reason or "", "failed")
    said = " ".join(ran.err.split())[:TOLD_CHARACTERS]
    return BackendUnavailable(
        "The batch system cannot be asked now. What runs or waits there goes on.",
        reason=reason,
        log_message=f"{program} {words} (exit code {ran.code}): {said or 'it said nothing'}",
    )
