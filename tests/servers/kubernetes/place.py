"""Where one cluster lives: a number that no other has, and from it its addresses, folder, interface and cgroup."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TextIO

from daas_hub.demo.setup import cache_root
from tests.waiting import PATIENCE

MOST = 16
LOCKS = Path("/run")
CGROUPS = Path("/sys/fs/cgroup")
KEEP_IMAGES_BYTES = 2**30


class Place:
    """The first free number's place (or that of ``number``), held by a file lock for as long as this object is open."""

    def __init__(self, number: int | None = None) -> None:
        """Take it and remove what a killed run left there. Raises RuntimeError where it, or every one, is taken."""
        asked = range(MOST) if number is None else range(number, number + 1)
        for self.number in asked:
            self.root = cache_root() / "clusters" / str(self.number)
            self.root.mkdir(parents=True, exist_ok=True)
            if self._take():
                return
        raise RuntimeError(
            f"No place for a cluster of {len(asked)}: all are taken, by other test runs or by routes of this machine."
        )

    def _take(self) -> bool:
        # Two locks: machines (or containers) may share a cache folder, and one machine may have several.
        self._locks: list[TextIO] = []
        for path in (self.root / "lock", LOCKS / f"daas-cluster-{self.number}.lock"):
            held = path.open("a")
            self._locks.append(held)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._let_go()
                return False
        self.clean()
        self.forget_images()
        subnet = ipaddress.ip_network(self._address("0.0/16"))
        if any(subnet.overlaps(route) for route in _routes()):
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        for held in self._locks:
            held.close()

    def _address(self, rest: str) -> str:
        return f"10.{200 + self.number}.{rest}"

    @property
    def node(self) -> str:
        """The node's address: the cluster's bridge."""
        return self._address("0.1")

    @property
    def host(self) -> str:
        """The machine's address in the cluster's network: what pods reach of the tests' own servers."""
        return self._address("0.2")

    @property
    def pods(self) -> tuple[str, str, str]:
        """The network of node, host and pods, and the first and last address for pods."""
        return self._address("0.0/18"), self._address("1.0"), self._address("63.250")

    @property
    def simulated(self) -> str:
        """Addresses of simulated pods: whatever listens on all addresses of the node answers for them."""
        return self._address("64.0/18")

    @property
    def services(self) -> str:
        """The network of services."""
        return self._address("128.0/20")

    @property
    def first_service(self) -> str:
        """The API server's own service."""
        return self._address("128.1")

    @property
    def interface(self) -> str:
        """The machine's interface towards the cluster."""
        return f"daas{self.number}"

    @property
    def cgroup(self) -> str:
        """The parent of all pods' cgroups."""
        return f"daas-cluster-{self.number}"

    @property
    def data(self) -> Path:
        """What one run of a cluster writes: emptied before each."""
        return self.root / "run"

    @property
    def images(self) -> Path:
        """The container runtime's images, kept from run to run while they are small."""
        return self.root / "containerd"

    def clean(self, *, keep: bool = False) -> None:
        """Remove what a killed run left: its interface, its cgroups and, unless ``keep``, its files."""
        if Path(f"/sys/class/net/{self.interface}").exists():
            subprocess.run(["ip", "link", "delete", self.interface], check=False, capture_output=True)
        for cgroup in self.cgroups():
            remove_cgroup(cgroup)
        if not keep:
            shutil.rmtree(self.data, ignore_errors=True)
            self.data.mkdir()

    def forget_images(self) -> None:
        """Empty the container runtime's folder where it has become large; nothing may run in it.

        The tests' own small images are kept: to give them to the node anew takes longer than to keep them. The
        project's images are gigabytes, and every change of the code makes others.
        """
        if _bytes_below(self.images) > KEEP_IMAGES_BYTES:
            shutil.rmtree(self.images, ignore_errors=True)

    def cgroups(self) -> list[Path]:
        """The parent cgroup in each hierarchy that there is, whether made or not."""
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS / self.cgroup]
        # Some hierarchies have two names, one of them a link.
        there = {p.resolve() for p in CGROUPS.iterdir() if p.is_dir() and p.name != "unified"}
        return [p / self.cgroup for p in sorted(there)]

    def make_cgroups(self) -> None:
        """Make the parents: the kubelet asks that they be there, with every controller."""
        if (CGROUPS / "cgroup.controllers").exists():
            names = (CGROUPS / "cgroup.controllers").read_text().split()
            (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{n}" for n in names))
        for cgroup in self.cgroups():
            cgroup.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # A new cpuset of the old kind is empty, and nothing can run in it.
                if (cgroup / name).exists() and (cgroup.parent / name).exists():
                    (cgroup / name).write_text((cgroup.parent / name).read_text())

    def close(self, *, keep: bool = False) -> None:
        """Let go of the place, empty unless ``keep``."""
        self.clean(keep=keep)
        if not keep:
            self.forget_images()
        self._let_go()


def _bytes_below(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(os.lstat(os.path.join(top, name)).st_blocks * 512 for top, _, names in os.walk(folder) for name in names)


def _routes() -> list[ipaddress.IPv4Network]:
    said = subprocess.run(
        ["ip", "-4", "-j", "route", "show", "table", "all"], capture_output=True, text=True, check=True
    )
    known = [str(route["dst"]) for route in json.loads(said.stdout)]
    return [ipaddress.IPv4Network(network, strict=False) for network in known if network != "default"]


def remove_cgroup(top: Path, within_s: float = 10.0) -> None:
    """Remove a tree of empty cgroups. A process that was just killed leaves its cgroup a moment later."""
    deadline = time.monotonic() + within_s * PATIENCE
    while top.exists():
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.02)
