"""One whole cluster, in a world of its own on this machine."""

from __future__ import annotations

import contextlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from .addons import Addons, simulated_node
from .build import programs
from .client import Client, KubectlFailed
from .control import ControlPlane
from .images import archive_of, toolbox_archive
from .keys import Keys
from .node import NAME, TOOLBOX, Node
from .place import Place
from .program import Program
from .space import Space

PORT = 6443


class Cluster(Client):
    """API server, etcd, scheduler, controller manager; one real node; names, volumes, simulated nodes.

    ``start`` blocks until a pod can be created. Everything ends with ``stop``, or when this process ends.
    """

    def __init__(self, number: int | None = None) -> None:
        """Take a place: the first free one, or ``number``. Builds the programs first where the cache lacks them."""
        self.programs = programs()
        self.place = Place(number)
        self.space = Space(self.place)
        self.keys = Keys(self.place, PORT)
        super().__init__(self.programs["kubectl"], self.keys.kubeconfig("admin"))
        self.control = ControlPlane(self.space, self.keys, self.programs)
        self.node = Node(self.space, self.keys, self.programs)
        self.addons = Addons(self.space, self.keys, self.programs)

    @cached_property
    def host(self) -> str:
        """This machine's address as pods see it: a server that they shall reach listens there."""
        return self.place.host

    @property
    def all(self) -> tuple[Program, ...]:
        """Every program, in the order of starting."""
        return (*self.control.all, *self.node.all, *self.addons.all)

    def env(self) -> dict[str, str]:
        """What other programs need: the kubeconfig, and kubectl and helm on the PATH."""
        return {**super().env(), "KUBECTL": str(self.programs["kubectl"]), "HELM": str(self.programs["helm"])}

    def start(self) -> Cluster:
        """Start everything. Raises NotStarted with the end of the log of the program that failed."""
        try:
            self._start()
        except BaseException:
            # The logs stay until the place is taken again.
            self.stop(keep=True)
            raise
        return self

    def _start(self) -> None:
        self.space.start()
        self.keys.make()
        with ThreadPoolExecutor(1) as meanwhile:
            runtime = meanwhile.submit(self._start_runtime)
            self.control.start()
            self.until(self._apply_first, what="the API server takes objects")
            runtime.result()
        self.node.start()
        self.addons.start()
        self.addons.dns.wait()
        self.until(self._usable, what=f"the node is ready; logs: {self.place.data}/logs")
        for program in self.all:
            program.wait()

    def _start_runtime(self) -> None:
        self.node.start_runtime()
        self._forget_images()
        # Its name says nothing of its content: it is imported anew.
        self.node.ctr("images", "import", "--local", str(toolbox_archive(TOOLBOX)))

    def _forget_images(self) -> None:
        """Images that were built from other content in earlier runs, and whose files are gone."""
        for name in self.node.ctr("images", "list", "--quiet").stdout.split():
            if name.startswith("localhost/") and not archive_of(name).exists():
                self.node.ctr("images", "delete", name)

    def _apply_first(self) -> bool:
        self.apply(*self.addons.manifests())
        return True

    def _usable(self) -> bool:
        conditions = self.get("node", NAME)["status"]["conditions"]
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return ready and bool(self.get("serviceaccount", "default"))

    def load(self, archive: Path, name: str) -> None:
        """Give the node an image, unless it has it. ``name`` is the whole name, with the tag."""
        if name not in self.node.ctr("images", "list", "--quiet").stdout.split():
            self.node.ctr("images", "import", "--local", str(archive))

    def add_simulated_node(self, name: str, **amounts: str) -> None:
        """A node that holds pods without running them, once it is ready. ``amounts``: what it has, by resource."""
        self.apply(simulated_node(name))
        amounts = {"pods": "10000", "cpu": "1000", "memory": "4Ti", **amounts}
        # As this kubelet's own: a node without it would make the whole cluster one that is not strict.
        features = {"supplementalGroupsPolicy": True}
        status = json.dumps({"status": {"capacity": amounts, "allocatable": amounts, "features": features}})
        self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", status)

        def ready() -> bool:
            conditions = self.get("node", name)["status"].get("conditions", [])
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        self.until(ready, what=f"the simulated node {name}")

    def stop(self, *, keep: bool = False) -> None:
        """End everything and leave nothing behind but the kept images; with ``keep`` its files, too."""
        # etcd and containerd write their files whole; everybody else has nothing to lose.
        with contextlib.suppress(KubectlFailed):
            for program in (self.node.kubelet, self.node.containerd):
                program.stop(signal.SIGTERM, within_s=5)
        self.space.stop()
        for program in self.all:
            program.stop(signal.SIGKILL)
        self.place.close(keep=keep)
