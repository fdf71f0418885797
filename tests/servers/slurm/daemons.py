"""The cluster's programs: how each one is started, and how one sees that it answers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.servers.kubernetes.program import Program

from .settings import CONTROLLERS, DATABASE, NODES, REST
from .world import World

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "slurmrestd", "sbatch", "mariadbd", "sudo")
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "hostname")
PLUGINS = ("auth_jwt", "accounting_storage_mysql")
REST_UID = 64031
"""Whom slurmrestd runs as: it refuses to be root or SLURM's user."""


def available() -> bool:
    """Whether this machine can run a cluster of its own SLURM."""
    plugins = all(list(Path("/usr/lib").glob(f"*/slurm-wlm/{name}.so")) for name in PLUGINS)
    programs = all(shutil.which(name, path=PATH) for name in PROGRAMS)
    return tools_available() and plugins and programs and system_tables().exists()


def tools_available() -> bool:
    """Whether this machine can make a cluster's world, whichever SLURM is to be in it."""
    return os.geteuid() == 0 and all(shutil.which(name, path=PATH) for name in TOOLS)


def system_tables(debian: Path | None = None) -> Path:
    """The script that makes MariaDB's own tables, by the older or the newer name."""
    share = (debian or Path("/")) / "usr" / "share"
    older = share / "mysql" / "mysql_system_tables.sql"
    return older if older.exists() else share / "mariadb" / "mariadb_system_tables.sql"


class Daemons:
    """All programs of a cluster, not yet started."""

    def __init__(self, world: World) -> None:
        self._world, self._root = world, world.root
        run = world.root / "run"
        self.munge = self._program("munged", self._munged(), answers=self._munge_answers)
        self.mariadb = self._program("mariadbd", self._mariadbd("--skip-networking"), answers=self._mariadb_answers)
        self.database = self._program(
            "slurmdbd", _as_host(run, DATABASE, "slurmdbd", "-D"), listens=(DATABASE, "database"),
            MARIADB_UNIX_PORT=str(self._tables_socket), MYSQL_UNIX_PORT=str(self._tables_socket),
        )  # fmt: skip
        self.controllers = [
            self._program(name, _as_host(run, name, "slurmctld", "-D"), listens=(name, "controller"))
            for name in CONTROLLERS
        ]
        self.nodes = {
            node.name: self._program(node.name, _as_node(run, node.name), listens=(node.name, "node")) for node in NODES
        }
        rest = ["setpriv", f"--reuid={REST_UID}", f"--regid={REST_UID}", "--clear-groups"]
        rest += ["slurmrestd", "-a", "rest_auth/jwt", f"{world.addresses[REST]}:{world.ports['rest']}"]
        self.rest = self._program("slurmrestd", rest, listens=(REST, "rest"), SLURM_JWT="daemon")

    @property
    def all(self) -> tuple[Program, ...]:
        """Every program, in the order of starting."""
        return (self.munge, self.mariadb, self.database, *self.controllers, *self.nodes.values(), self.rest)

    def _program(
        self, name: str, argv: list[str], *, answers: object = None, listens: tuple[str, str] | None = None, **more: str
    ) -> Program:
        if listens is not None:
            address = (self._world.addresses[listens[0]], self._world.ports[listens[1]])
            return Program(name, argv, self._world, answers=lambda: _listens(address), environment=more)
        assert callable(answers)
        return Program(name, argv, self._world, answers=answers, environment=more)

    def _munged(self) -> list[str]:
        folder = self._root / "munge"
        # Its socket must be everybody's, and it wants nobody else to write where it is.
        argv = ["munged", "--foreground", f"--socket={folder / 'socket'}", f"--key-file={folder / 'key'}"]
        return [*argv, f"--pid-file={folder / 'pid'}", f"--log-file={folder / 'log'}", f"--seed-file={folder / 'seed'}"]

    def _munge_answers(self) -> bool:
        argv = [*self._world.login(), "munge", f"--socket={self._root / 'munge' / 'socket'}", "--no-input"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    @property
    def _tables(self) -> Path:
        return self._root / "mariadb"

    @property
    def _tables_socket(self) -> Path:
        return self._tables / "socket"

    def _mariadbd(self, *more: str) -> list[str]:
        # Its folder is root's alone, and so are all rights in it. What a crash loses is of no use to anybody.
        argv = [
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={self._tables}",
            f"--socket={self._tables_socket}",
        ]
        argv += ["--skip-grant-tables", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
        return [*argv, "--innodb-flush-method=nosync", *more]

    def _mariadb_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(str(self._tables_socket)) == 0

    def make_tables(self) -> None:
        """MariaDB's own tables: slurmdbd keeps procedures in them."""
        self._tables.mkdir(mode=0o700)
        given = "create database mysql;\nuse mysql;\n" + system_tables(self._world.debian).read_text()
        argv = [*self._world.enter(), *self._mariadbd("--bootstrap")]
        with (self._world.logs / "bootstrap.log").open("ab") as log:
            done = subprocess.run(argv, input=given.encode(), stdout=log, stderr=log, check=False, env={"PATH": PATH})
        if done.returncode:
            raise RuntimeError(f"MariaDB cannot make its tables: {self._world.logs}/bootstrap.log")


def _as_host(run: Path, name: str, *argv: str) -> list[str]:
    """Run it as on a host of its own: a name, a folder for process ids (who starts ends whom it finds there), /proc."""
    script = f'hostname {name}; mount -t tmpfs tmpfs {run}; mount -t proc proc /proc; exec "$@"'
    return ["unshare", "--uts", "--mount", "sh", "-ec", script, "sh", *argv]


def _as_node(run: Path, name: str) -> list[str]:
    """A node has SLURM's settings as they are when it starts.

    A job's first process reads them again. It would be lost for good if the login host were misled just then.
    """
    script = 'cp -r /etc/slurm "$0/settings"; mount --bind "$0/settings" /etc/slurm; exec slurmd -D'
    return _as_host(run, name, "sh", "-ec", script, str(run))


def _listens(address: tuple[str, int]) -> bool:
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(address) == 0
