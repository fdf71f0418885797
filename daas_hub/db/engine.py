"""One engine for the whole ledger: transactions, time-outs, and the engines' errors in our words.

SQLite: WAL, synchronous=FULL, BEGIN IMMEDIATE for writers, so that a transaction that began to write never fails
for another one. Writers of one process queue at a lock first: SQLite's own waiting is a poll, and unfair.
PostgreSQL: READ COMMITTED with explicit row locks, taken in a fixed order; deadlocks are repeated.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from daas_hub.core.errors import ConfigError, DaasError, LedgerBusy

from .filesystem import refuse_network_files
from .types import dump_json

P = ParamSpec("P")
T = TypeVar("T")

MAX_TRIES = 5
"""How often a PostgreSQL transaction is repeated that met a deadlock or a row it could not see yet."""
POOL_SIZE = 8
OLDEST_SQLITE = (3, 34)
_DEADLOCK = frozenset({"40001", "40P01"})
# A unique index knows more than the snapshot of a statement that waited for a lock: look again.
_REPEAT = _DEADLOCK | {"23505"}
_PATIENCE_S = 0.05
_WRITE = "daas_write"


class Database:
    """The engine behind a ledger. Thread-safe."""

    def __init__(self, url: str, *, busy_timeout_s: float) -> None:
        self.busy_timeout_s = busy_timeout_s
        self.engine = _make_engine(url, busy_timeout_s)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._write_engine = self.engine.execution_options(**{_WRITE: True})
        self._writers = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, …)`` in one transaction that only reads. Raises LedgerBusy."""
        try:
            with self.engine.connect() as c, c.begin():
                return fn(c, *args, **kwargs)
        except (DBAPIError, PoolTimeout) as error:
            raise translate(error) from error

    def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``fn(connection, …)`` in one transaction; all of it is durable when this returns, or nothing is.

        ``fn`` may be run again after a deadlock, so it must have no effect but on the connection.
        Raises LedgerBusy where another writer holds the ledger longer than the time-out.
        """
        for attempt in range(1, MAX_TRIES + 1):
            try:
                with self._writing() as c:
                    return fn(c, *args, **kwargs)
            except (DBAPIError, PoolTimeout) as error:
                if attempt == MAX_TRIES or _sqlstate(error) not in _REPEAT:
                    raise translate(error) from error
        raise AssertionError("unreachable")

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if not self.is_sqlite:
            with self.engine.connect() as c, c.begin():
                yield c
            return
        began = time.monotonic()
        if not self._writers.acquire(timeout=self.busy_timeout_s):
            raise busy()
        try:
            with self._write_engine.connect() as c:
                waited_s = time.monotonic() - began
                if waited_s > _PATIENCE_S:
                    left_ms = max(1, int((self.busy_timeout_s - waited_s) * 1000))
                    _pragma(c, f"busy_timeout={left_ms}")
                with c.begin():
                    if waited_s > _PATIENCE_S:
                        _pragma(c, f"busy_timeout={int(self.busy_timeout_s * 1000)}")
                    yield c
        finally:
            self._writers.release()


def insert(c: Connection, table: Table) -> Any:
    """An INSERT that can say ON CONFLICT, in the dialect of this connection."""
    return sqlite.insert(table) if c.dialect.name == "sqlite" else postgresql.insert(table)


def _pragma(c: Connection, text: str) -> None:
    """Straight to the driver: an ordinary statement would begin a transaction first."""
    raw = c.connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.execute(f"PRAGMA {text}")


# ---------------------------------------------------------------- making the engine


def _make_engine(url: str, busy_timeout_s: float) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "The ledger's URL cannot be read; allowed are sqlite:///file and postgresql+psycopg://user@host/name."
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if "?" in url:
            # Most likely of a folder's name: the path ends before it, and the ledger would lie somewhere else.
            raise ConfigError(
                "The URL of a SQLite ledger may have no ?: the file's path ends there. Whoever administers this hub "
                "writes it as %3F in DaasHub.ledger_url, or keeps the ledger in another folder."
            )
        return _sqlite(url, parsed.database, busy_timeout_s)
    if backend == "postgresql":
        return _postgresql(url, busy_timeout_s)
    raise ConfigError(f"The ledger cannot be kept in {backend}: allowed are SQLite and PostgreSQL.")


def _sqlite(url: str, file: str | None, busy_timeout_s: float) -> Engine:
    if not file or file == ":memory:" or file.startswith("file:"):
        raise ConfigError("The ledger needs a file: sqlite:///relative.sqlite or sqlite:////absolute.sqlite.")
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(f"This Python has SQLite {sqlite3.sqlite_version}; the ledger needs 3.34 or newer.")
    path = Path(file).absolute()
    if not path.parent.is_dir():
        raise ConfigError(f"The ledger cannot be kept in {path}: its folder does not exist.")
    refuse_network_files(path)
    engine = create_engine(
        url,
        json_serializer=dump_json,
        connect_args={"timeout": busy_timeout_s, "check_same_thread": False, "isolation_level": None},
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=busy_timeout_s,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # the driver must begin nothing by itself
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("PRAGMA foreign_keys=ON")
        # The writer whose commit fills the log copies it back, which takes milliseconds: 16 MB keeps that rare.
        raw.execute("PRAGMA wal_autocheckpoint=4000")

    @event.listens_for(engine, "begin")
    def _on_begin(c: Connection) -> None:
        c.exec_driver_sql("BEGIN IMMEDIATE" if c.get_execution_options().get(_WRITE) else "BEGIN")

    return engine


def file_url(path: Path) -> str:
    """The URL of a SQLite file, quoted; raises ConfigError for a path that this SQLAlchemy cannot put into one."""
    url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    if "?" in url or make_url(url).database != str(path):
        raise ConfigError(
            f"{path} cannot be written as the URL of a SQLite file here: name a folder whose path has no ?, # or %, "
            "or install SQLAlchemy 2.1 or newer."
        )
    return url


def absolute_url(url: str) -> str:
    """The same ledger for processes with another working directory."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Whoever opens it says what is wrong.
        return url
    if parsed.get_backend_name() != "sqlite" or not parsed.database or os.path.isabs(parsed.database):
        return url
    return file_url(Path(parsed.database).absolute())


def make_private_file(url: str) -> None:
    """Create a missing SQLite file with mode 0600 (its WAL gets the same): it holds tokens, though encrypted."""
    file = make_url(url).database
    if file and not os.path.exists(file):
        try:
            os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(f"The ledger cannot be made at {file}: {error.strerror}.") from error


def _postgresql(url: str, busy_timeout_s: float) -> Engine:
    ms = max(1, int(busy_timeout_s * 1000))
    options = f"-c lock_timeout={ms} -c idle_in_transaction_session_timeout=60000 -c synchronous_commit=on"
    try:
        return create_engine(
            url,
            json_serializer=dump_json,
            isolation_level="READ COMMITTED",
            connect_args={"options": options, "connect_timeout": max(2, int(busy_timeout_s)), "prepare_threshold": 1},
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=busy_timeout_s,
            pool_pre_ping=True,
        )
    except (NoSuchModuleError, ImportError, TypeError) as error:
        raise ConfigError(
            "The ledger's URL names PostgreSQL, but its driver is not there: write postgresql+psycopg://… and "
            "install daas-hub[postgres]."
        ) from error


# ---------------------------------------------------------------- the engines' errors in our words


def busy() -> LedgerBusy:
    """Another writer holds the ledger."""
    return LedgerBusy("The ledger is being written by somebody else just now. Try again.", retry_after_s=2)


def _sqlstate(error: Exception) -> str:
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def _sqlite_code(error: Exception) -> int:
    return int(getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) or 0) & 0xFF


def translate(error: Exception) -> Exception:
    """LedgerBusy for what passes by itself or with an operator's help; anything else is a fault of ours and stays."""
    if isinstance(error, DaasError):
        return error
    if isinstance(error, PoolTimeout):
        return busy()
    code, state = _sqlite_code(error), _sqlstate(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or state in {*_DEADLOCK, "55P03", "57014"}:
        return busy()
    if code == sqlite3.SQLITE_FULL or state == "53100":
        return _failed("The ledger's disk is full: nothing was written. Tell the administrator.", error, "ledger_full")
    if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return _failed("The ledger's file cannot be used now. Tell the administrator.", error, "ledger_io")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return _failed("The ledger's file is damaged or is no ledger. Tell the administrator.", error, "ledger_damaged")
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    # 08: connection, 53: resources, 57P: shut down or starting; no state at all: the server was not reached.
    unreachable = state[:2] in {"08", "53"} or state.startswith("57P")
    if lost or unreachable or (not state and not code and type(error).__name__ == "OperationalError"):
        return _failed("The ledger's database cannot be reached now. Try again.", error, "ledger_unreachable")
    return error


def _failed(message: str, error: Exception, reason: str) -> LedgerBusy:
    detail = str(getattr(error, "orig", error)).strip()
    return LedgerBusy(message, reason=reason, log_message=f"{message} {detail}", retry_after_s=5)
