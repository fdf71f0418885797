"""A small program with rights of its own, called by sudo: words, one text on standard input, one JSON object back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from daas_hub.core.errors import BackendUnavailable

from . import processes

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
CLOSE_WITHIN_S = 5


class HelperProgram:
    """``argv``: the words that run it. One process for each question."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = tuple(argv)
        self._left: set[asyncio.Future[Any]] = set()
        """Programs that nobody waits for any more: what sudo runs the hub cannot kill."""

    async def close(self) -> None:
        """Wait for those a little: their pipes are closed when they end."""
        if self._left:
            await asyncio.wait(self._left, timeout=CLOSE_WITHIN_S)

    async def ask(self, *words: str, given: bytes = b"", within_s: float) -> dict[str, Any]:
        """What it answers. Raises BackendUnavailable where it says nothing that can be read.

        Its reason is ``unsure`` where the program may have acted all the same, ``helper`` where it has not.
        """
        argv = [*self.argv, *words]
        code, output, errors = await self._run(argv, given, within_s)
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            said = errors.decode(errors="replace").strip()[-500:] or "nothing"
            # Killed, it may have acted before.
            reason = "helper" if code >= 0 else "unsure"
            raise away(f"{' '.join(argv)} ends with {code} and says {said}", reason)
        return answer

    async def _run(self, argv: list[str], given: bytes, within_s: float) -> tuple[int, bytes, bytes]:
        """Exit status (negative: killed), output and errors."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise away(f"{argv[0]}: {error.strerror}", "helper") from error
        talk = asyncio.ensure_future(process.communicate(given))
        # Held until it ends, also where the caller is cancelled.
        self._left.add(talk)
        talk.add_done_callback(self._left.discard)
        done, _ = await asyncio.wait({talk}, timeout=within_s)
        if not done:
            at = await asyncio.to_thread(processes.waits_for, process.pid)
            with suppress(ProcessLookupError, PermissionError):
                process.kill()
            raise away(f"{' '.join(argv)} has said nothing for {within_s:g} s; it is at: {at or 'its end'}", "unsure")
        output, errors = talk.result()
        return process.returncode or 0, output, errors


def away(why: str, reason: str) -> BackendUnavailable:
    """The one error for a cluster that cannot be told anything."""
    return BackendUnavailable(
        "The batch system cannot be told anything now. What runs or waits there goes on.",
        reason=reason,
        log_message=why,
        retry_after_s=10,
    )
