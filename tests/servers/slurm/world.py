"""Where one SLURM cluster lives: a folder, loopback addresses that nobody else uses, and namespaces with its own /etc.

Inside, /etc has the cluster's people, host names, SLURM settings and sudo rules in the place of this machine's, and
/srv is a file system that all of its hosts share; the network is the machine's own, so that what listens there is
reached from outside by its address.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.servers.namespaces import Namespaces

FOLDER, PREFIX = Path("/var/tmp"), "daas-slurm-"
A_MINUTE_S = 60
SERVICES = ("controller", "node", "database", "rest")
OWN = ("passwd", "group", "shadow", "hosts", "resolv.conf", "slurm", "sudoers.d")
"""What /etc has of its own."""
# Another Debian's /usr has this machine's Python over its own: environments of the tests are made of it. Where this
# machine's Node is in /usr, it is there with its own loader and libraries. What is written to /usr is gone with the
# world.
# As the first process of the namespace the shell buries whatever loses its parent; it ends when its input does.
INSIDE = """
set -e
for name in {own}; do mount --bind "$1/etc/$name" "/etc/$name"; done
mount --bind "$1/srv" /srv
if [ -n "$3" ]; then
    for name in ld.so.cache alternatives pam.d; do mount --bind "$3/etc/$name" "/etc/$name"; done
    mount -t tmpfs tmpfs "$1/other"
    cd "$1/other"
    mkdir machine upper work usr
    mount --bind /usr machine
    mount -t overlay -o "lowerdir=$3/usr,upperdir=upper,workdir=work" overlay usr
    for python in machine/bin/python3*; do
        [ -e "$python" ] || continue
        cp -a --remove-destination "$python" usr/bin/
    done
    for library in machine/lib/python3.*; do
        [ -d "$library" ] || continue
        mkdir -p "usr/lib/${{library##*/}}"
        mount --bind "$library" "usr/lib/${{library##*/}}"
    done
    mount --bind machine/local usr/local
    mkdir usr/machine
    mount --bind machine usr/machine
    for modules in share/python-wheels share/nodejs lib/nodejs lib/node_modules; do
        [ -d "machine/$modules" ] || continue
        mkdir -p "usr/$modules"
        mount --bind "machine/$modules" "usr/$modules"
    done
    for loader in machine/lib/*/ld-linux-*.so.*; do
        [ -e "$loader" ] && [ -e machine/bin/node ] || continue
        words="/usr/$loader --library-path /usr/${{loader%/*}} /usr/machine/bin/node"
        printf '#!/bin/sh\\nexec %s "$@"\\n' "$words" > usr/bin/node
        chmod 755 usr/bin/node
        [ ! -e machine/bin/npm ] || cp -a machine/bin/npm usr/bin/
        break
    done
    mount --rbind usr /usr
    cd /
fi
hostname "$2"
echo ready
cat >/dev/null
"""


class World:
    """The folder, the addresses by host name, and the namespaces. They end with ``stop`` or with this process."""

    def __init__(self, hosts: tuple[str, ...], debian: Path | None = None) -> None:
        # Not pytest's tmp_path: people of the cluster must reach their homes.
        remove_left_over()
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDER))
        self._held = _hold(self.root)
        self.root.chmod(0o755)
        self.etc = self.root / "etc"
        self.addresses: Mapping[str, str] = _addresses(hosts)
        self.ports: Mapping[str, int] = _free_ports()
        self._name = hosts[0]
        self.debian = debian
        """The folder of another Debian, whose programs are to be inside those of /usr; None: this machine's."""
        self._inside: Namespaces | None = None
        self.init = 0
        """The process id, as this machine sees it, of the world's first process."""

    @property
    def logs(self) -> Path:
        """The folder of the programs' logs."""
        return self.root / "logs"

    def start(self) -> None:
        """Make /etc's own files as copies of this machine's, then the namespaces."""
        self.logs.mkdir()
        self.etc.mkdir()
        for name in ("other", "srv"):
            (self.root / name).mkdir(mode=0o755)
        for name in ("slurm", "sudoers.d"):
            (self.etc / name).mkdir()
        for name in ("passwd", "group", "shadow", "hosts", "resolv.conf"):
            shutil.copyfile(f"/etc/{name}", self.etc / name)
        (self.etc / "shadow").chmod(0o600)
        with (self.etc / "hosts").open("a") as hosts:
            hosts.writelines(f"{address} {name}\n" for name, address in self.addresses.items())
        argv = ["unshare", "--mount", "--uts", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c"]
        argv += [INSIDE.format(own=" ".join(OWN)), "sh", str(self.root), self._name, str(self.debian or "")]
        log = self.logs / "world.log"
        self._inside = Namespaces(argv, log, "The cluster's namespaces")
        self.init = self._inside.only_child()

    def enter(self) -> list[str]:
        """For the cluster's daemons: all of the namespaces, so that they end with the world."""
        return ["nsenter", "--target", str(self.init), "--mount", "--uts", "--pid", "--ipc", "--"]

    def login(self) -> list[str]:
        """For who uses the cluster (a hub, sbatch): its /etc and host name, but process ids as outside."""
        return ["nsenter", "--target", str(self.init), "--mount", "--uts", "--"]

    def stop(self, *, keep: bool = False) -> None:
        """End everybody in it and remove its folder, unless ``keep``."""
        if self._inside is not None:
            self._inside.stop()
        self._inside = None
        if not keep:
            shutil.rmtree(self.root, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None


def remove_left_over() -> None:
    """Remove the folders of clusters that ended without being stopped: nobody holds them. Their processes are gone."""
    for folder in FOLDER.glob(f"{PREFIX}*"):
        with suppress(OSError):
            # A folder that was made just now may not be held yet.
            old = time.time() - folder.stat().st_mtime > A_MINUTE_S
            if old and folder.stat().st_uid == os.getuid() and (held := _hold(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)


def _hold(folder: Path) -> int | None:
    """Lock a folder for as long as the descriptor is open; None where somebody else holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _addresses(hosts: tuple[str, ...]) -> dict[str, str]:
    """A loopback address for each, from a network that probably nobody else uses."""
    start = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}"
    return {name: f"{start}.{10 + number}" for number, name in enumerate(hosts)}


def _free_ports() -> dict[str, int]:
    """A port for each kind of daemon: some of them listen on every address of the machine.

    Below the ports that the kernel gives to connections.
    """
    while True:
        first = random.randint(10_000, 30_000)
        with suppress(OSError):
            for number in range(len(SERVICES)):
                with socket.socket() as s:
                    s.bind(("", first + number))
            return {name: first + number for number, name in enumerate(SERVICES)}
