"""A world of its own for the cluster's processes: namespaces for mounts, network and processes, and a cable into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers.namespaces import Namespaces

from .place import Place

INIT = Path(__file__).with_name("init.py")
PREFIX = 18


class Space:
    """The namespaces of one place. They end with ``stop``, and by themselves when this process ends."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.log = place.data / "space.log"
        self._held: Namespaces | None = None
        self.init = 0
        """The process id, as this machine sees it, of the world's first process."""

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self.place.data / "logs"

    def start(self) -> None:
        """Make the namespaces, then the cable: a pair of interfaces, one end at the machine, one at the bridge."""
        for folder in ("/var/lib/cni", "/run/netns"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        argv = ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        argv += [sys.executable, "-I", str(INIT), self.place.node, str(PREFIX)]
        self._held = Namespaces(argv, self.log, "The cluster's namespaces")
        self.init = self._held.only_child()
        self._cable()

    def _cable(self) -> None:
        here, there = self.place.interface, "uplink"
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", str(self.init))
        _ip("address", "add", f"{self.place.host}/{PREFIX}", "dev", here)
        _ip("link", "set", here, "up")
        _ip("route", "add", self.place.services, "via", self.place.node)
        _ip("route", "add", self.place.simulated, "via", self.place.node)
        for command in (
            f"link set {there} master cni0",
            f"link set {there} up",
            # Every address of simulated pods is the node's own.
            f"route add local {self.place.simulated} dev lo",
        ):
            subprocess.run([*self.enter(net_only=True), "ip", *command.split()], check=True, capture_output=True)

    def enter(self, *, net_only: bool = False) -> list[str]:
        """The words before an argv that make it run inside."""
        spaces = ["--net"] if net_only else ["--mount", "--net", "--pid", "--ipc"]
        return ["nsenter", "--target", str(self.init), *spaces, "--"]

    def stop(self) -> None:
        """End the world and everybody in it."""
        if self._held is not None:
            self._held.stop()
        self._held = None


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
