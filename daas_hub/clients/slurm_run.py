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


async def run(argv: Sequence[str], environment: Mapping[str, str], *, within_s: float) -> Ran:
    """Run it; after ``within_s`` seconds, or when the caller is cancelled, it and its children are killed.

    When this returns or raises the program has ended. Raises OSError where it cannot be started. Bytes that are no
    UTF-8 are replaced.
    """
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=dict(environment), cwd="/", start_new_session=True,
    )  # fmt: skip
    out, err = bytearray(), bytearray()
    reading = asyncio.gather(_read(process.stdout, out), _read(process.stderr, err))
    try:
        async with asyncio.timeout(within_s):
            await reading
            code: int | None = await process.wait()
    except TimeoutError:
        code = None
    finally:
        if process.returncode is None:
            # Its process id is its group's, and stays its own until it was waited for.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return Ran(code, out.decode(errors="replace"), err.decode(errors="replace"))


async def _read(stream: asyncio.StreamReader | None, into: bytearray) -> None:
    while stream and (some := await stream.read(2**16)):
        into += some


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
