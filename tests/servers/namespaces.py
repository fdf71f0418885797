"""Namespaces of a test's own, held by a program that says "ready" and ends when its standard input does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.waiting import PATIENCE


class Namespaces:
    """They end with ``stop``, and by themselves when this process ends."""

    def __init__(self, argv: Sequence[str], log: Path, what: str) -> None:
        """``what``: whose they are, for the RuntimeError of what cannot be made; ``log``: what the program says."""
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, start_new_session=True
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.stop()
            raise RuntimeError(f"{what} cannot be made: {log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The program's process id, as this machine sees it."""
        return self._process.pid

    def only_child(self) -> int:
        """That of the first process inside, where the program made a namespace of processes."""
        return only_child(self._process)

    def stop(self) -> None:
        """End the program, and with it whoever is in its namespace of processes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


def only_child(process: subprocess.Popen[bytes], within_s: float = 10.0) -> int:
    """The process id of a process's one child, waited for. RuntimeError where the process ended without one."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + within_s * PATIENCE
    while True:
        children = listed.read_text().split() if process.poll() is None else []
        if children:
            return int(children[0])
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} has no child: it ended with {process.returncode}.")
        time.sleep(0.005)
