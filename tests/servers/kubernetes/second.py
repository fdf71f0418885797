"""A second real node of the tests' cluster: containerd and kubelet once more, in a world of their own.

Its bridge is joined to the first one's, so that pods of both reach each other and this machine reaches them all. Both
nodes see the same folders of this machine, as nodes see a site's shared storage.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from .cluster import Cluster
from .images import Image, toolbox_archive
from .node import TOOLBOX, Node
from .place import Place, remove_cgroup
from .program import Program
from .space import Space

NAME = "rig-2"
TAINT = "tests/second"
"""Pods land there only where they tolerate it."""


class SecondPlace(Place):
    """Within the first node's place: other addresses, its own files, a group below the first one's."""

    def __init__(self, first: Place) -> None:
        self.number, self.root, self._first = first.number, first.root, first

    @property
    def node(self) -> str:
        return self._address("0.3")

    @property
    def pods(self) -> tuple[str, str, str]:
        return self._first.pods[0], self._address("62.0"), self._address("62.250")

    @property
    def cgroup(self) -> str:
        return f"{self._first.cgroup}/second"

    @property
    def data(self) -> Path:
        return self._first.data / "second"

    @property
    def images(self) -> Path:
        return self.data / "containerd"


class SecondSpace(Space):
    """Namespaces whose bridge hangs on the cluster's."""

    def __init__(self, place: Place, first: Space) -> None:
        super().__init__(place)
        self._first = first

    def _cable(self) -> None:
        _in(self._first, f"link add {NAME} type veth peer name uplink netns {self.init}")
        _in(self._first, f"link set {NAME} master cni0 up")
        # The first node's bridge has the address that every node's bridge is given.
        _in(self, "link set cni0 address 0a:58:0a:00:00:02")
        _in(self, "link set uplink master cni0 up")


class SecondNode:
    """Starts beside a cluster and leaves it as it was."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.place = SecondPlace(cluster.place)
        self.space = SecondSpace(self.place, cluster.space)
        self.node = Node(self.space, cluster.keys, cluster.programs, name=NAME, user="admin")
        self.node.kubelet.argv.append(f"--register-with-taints={TAINT}=yes:NoSchedule")

    def start(self, *images: Image) -> None:
        """Return once pods can run there; ``images`` are on it then."""
        self.place.data.mkdir(parents=True)
        try:
            self.space.start()
            self.node.start_runtime()
            self.node.ctr("images", "import", "--local", str(toolbox_archive(TOOLBOX)))
            for image in images:
                self.node.ctr("images", "import", "--local", str(image.archive))
            self.node.start(proxy=False)
            self.cluster.until(self._ready, what=f"the node {NAME} is ready; logs: {self.place.data}/logs")
        except BaseException:
            self.stop()
            raise

    def _ready(self) -> bool:
        conditions = self.cluster.get("node", NAME)["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def stop(self) -> None:
        """End its programs, and let the cluster forget it."""
        stop: tuple[Program, ...] = (self.node.kubelet, self.node.containerd)
        for program in stop:
            program.stop(signal.SIGTERM, within_s=5)
        self.space.stop()
        for program in stop:
            program.stop(signal.SIGKILL)
        for cgroup in self.place.cgroups():
            remove_cgroup(cgroup)
        shutil.rmtree(self.place.data, ignore_errors=True)
        self.cluster.kubectl("delete", "node", NAME, "--ignore-not-found")


def _in(space: Space, words: str) -> None:
    argv = [*space.enter(net_only=True), "ip", *words.split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {words}: {done.stderr.strip()}")
