"""A login host that somebody changes as a manual says: accounts, /etc, /usr/local/sbin and /var/lib of its own.

People, homes, SLURM's settings and /srv are its cluster's. What else is written there is gone with it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.namespaces import Namespaces
from tests.waiting import PATIENCE

from .daemons import PATH
from .settings import LOGIN, NODES
from .world import World

NAME, NODES_DOMAIN = "hub.example.org", "cluster.example.org"
"""How the cluster's hosts know this one, and where their own names are."""
INSIDE = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/etc" "$1/lib" "$1/sbin"
cp -a /etc/. "$1/etc"
mount --bind /etc/slurm "$1/etc/slurm"
mount --rbind "$1/etc" /etc
mount --bind "$1/lib" /var/lib
mount --bind "$1/sbin" /usr/local/sbin
echo ready
cat >/dev/null
"""


class LoginHost:
    """Ends with ``stop`` or with this process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.address = world.addresses[LOGIN]
        self.root = world.root / "login"
        self._held: Namespaces | None = None

    def start(self) -> LoginHost:
        """Make it, and let every host of the cluster know its name."""
        self.root.mkdir(mode=0o755, exist_ok=True)
        path = self.world.etc / "hosts"
        if NAME not in path.read_text():
            names = [f"{self.world.addresses[node.name]} {node.name}.{NODES_DOMAIN}\n" for node in NODES]
            with path.open("a") as hosts:
                hosts.writelines([f"{self.address} {NAME}\n", *names])
        argv = [*self.world.login(), "unshare", "--mount", "sh", "-c", INSIDE, "sh", str(self.root)]
        self._held = Namespaces(argv, self.world.logs / "login.log", "The login host")
        return self

    def stop(self) -> None:
        """Nothing of it is left."""
        if self._held is not None:
            self._held.stop()
        self._held = None

    @property
    def words(self) -> list[str]:
        """The words before an argv that run it there as root; process ids are as outside."""
        assert self._held is not None
        return ["nsenter", "--target", str(self._held.pid), "--mount", "--uts", "--"]

    def ask(
        self, *argv: str, given: str = "", environment: Mapping[str, str] | None = None, within_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there, whatever comes of it; both outputs are one."""
        env = {"PATH": f"/usr/local/sbin:{PATH}", "HOME": "/root", "LANG": "C.UTF-8", **(environment or {})}
        return subprocess.run(
            [*self.words, *argv], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=within_s * PATIENCE, env=env, cwd="/",
        )  # fmt: skip

    def path(self, path: str) -> Path:
        """A path of this host as a process outside may open it."""
        assert self._held is not None
        return Path(f"/proc/{self._held.pid}/root{path}")

    def uid(self, name: str) -> int:
        """The uid of one of its accounts."""
        done = self.ask("id", "-u", name)
        assert done.returncode == 0, done.stdout
        return int(done.stdout)

    def pids(self, uid: int) -> list[int]:
        """Processes of an account that run on this host."""
        assert self._held is not None
        space, found = os.stat(f"/proc/{self._held.pid}/ns/uts").st_ino, []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and entry.stat().st_uid == uid and (entry / "ns/uts").stat().st_ino == space:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found
