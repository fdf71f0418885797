"""One program of the cluster, run inside its namespaces: started, waited for, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.servers.namespaces import only_child
from tests.waiting import PATIENCE


class NotStarted(Exception):
    """Raised when a program ended or did not answer in time; the text has the end of its log."""


class World(Protocol):
    """Namespaces that programs run in."""

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""

    def enter(self) -> list[str]:
        """The words before an argv that make it run inside."""


class Program:
    """A server of the cluster. ``answers`` says whether it is ready; None where being alive is enough."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        space: World,
        *,
        answers: Callable[[], bool] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = argv
        self.space = space
        self.answers = answers
        self.environment = environment or {}
        self.log = space.logs / f"{name}.log"
        self.pid = 0
        """Its process id as this machine sees it; 0 while it does not run."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, without waiting for its answer."""
        self.log.parent.mkdir(exist_ok=True)
        # One Go program at a time must not take every core from the tests.
        environment = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", **self.environment}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.space.enter(), *self.argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
        self.pid = only_child(self._process)

    def wait(self, within_s: float = 30.0) -> None:
        """Wait until it answers. Raises NotStarted."""
        within_s *= PATIENCE
        deadline = time.monotonic() + within_s
        while True:
            if not self.running:
                raise NotStarted(f"{self.name} ended. {self.tail()}")
            if self.answers is None or self.answers():
                return
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} did not answer within {within_s:g} s. {self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of its log, with the log's path."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"The end of {self.log}:", *lines[-15:]])

    def stop(self, how: signal.Signals = signal.SIGTERM, within_s: float = 20.0) -> None:
        """Send the signal and wait for the end; after ``within_s`` seconds it is killed."""
        if self._process is None:
            return
        if self.running:
            self._send(how)
            try:
                self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                self._send(signal.SIGKILL)
                self._process.wait(10)
        self._process, self.pid = None, 0

    def pause(self) -> None:
        """Let it stand still, alive and silent, until ``resume``."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on. Who put it into its namespaces has stopped with it."""
        self._send(signal.SIGCONT)
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGCONT)

    def _send(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, how)


def write(path: Path, text: str) -> Path:
    """Write a configuration file that only root reads; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path
