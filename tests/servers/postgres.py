"""A PostgreSQL of our own, run as the first suitable user: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.waiting import PATIENCE

from .ports import free_port


class PostgresServer:
    """One PostgreSQL cluster in a temporary folder, on a free port of 127.0.0.1. Ends only what it started."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="daas-postgres-"))
        self.port = free_port()
        self.log = self.folder / "postgres.log"
        self._uid, self._gid = _owner()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """The URL for SQLAlchemy."""
        return f"postgresql+psycopg://daas@127.0.0.1:{self.port}/{database}"

    def env(self) -> dict[str, str]:
        """What libpq's programs need to find this server."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "daas", "PGDATABASE": "postgres"}

    def start(self) -> None:
        """Make the cluster if there is none, start it and wait until it answers."""
        data = self.folder / "data"
        if not data.exists():
            os.chown(self.folder, self._uid, self._gid)
            self._run("initdb", "-D", str(data), "-U", "daas", "--auth=trust", "--no-sync", "--encoding=UTF8")
        argv = [_program("postgres"), "-D", str(data), "-p", str(self.port), "-k", str(self.folder)]
        argv += ["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._switch()
            )
        self._wait()

    def create_database(self, name: str) -> str:
        """A fresh empty database; returns its URL."""
        with psycopg.connect(self._dsn(), autocommit=True) as c:
            c.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def empty_database(self) -> str:
        """The URL of the first database, with nothing in it: cheaper than a new one, which is a thousand files."""
        with psycopg.connect(self._dsn(), autocommit=True) as c:
            c.execute("DROP SCHEMA public CASCADE")
            c.execute("CREATE SCHEMA public")
        return self.url()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server (SIGINT: fast, SIGQUIT: as a crash) and wait; the data stays until ``remove``."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(30)
        self._process = None

    def remove(self) -> None:
        """Stop at once, without the last checkpoint, and delete everything."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=daas dbname=postgres connect_timeout=2"

    def _wait(self, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s * PATIENCE
        while True:
            try:
                psycopg.connect(self._dsn()).close()
                return
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}") from error
                time.sleep(0.05)

    def _run(self, program: str, *args: str) -> None:
        subprocess.run([_program(program), *args], check=True, capture_output=True, timeout=60, **self._switch())

    def _switch(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {"cwd": self.folder}
        return {"cwd": self.folder, "user": self._uid, "group": self._gid, "extra_groups": []}


def _owner() -> tuple[int, int]:
    """Whom the server runs as: ourselves, or where we are root its own user."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("There is no user to run PostgreSQL as.")


def _program(name: str) -> str:
    """The newest version's program; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3].split(".")[0]))
    return str(found[-1]) if found else shutil.which(name) or name
