"""A ledger with a past: ended launches and those that run, with all their sums, written in bulk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, text

from daas_hub.db.ledger import Ledger
from daas_hub.db.schema import launch, launch_scope

PEOPLE = 10_000
RUNNING = 1_000
"""So many of the rows are active; all others have ended."""
CHUNK = 20_000


def fill(ledger: Ledger, rows: int, *, begin: int = 0) -> None:
    """Add launches ``begin`` … ``rows`` - 1, then make the sums; only the first ones run."""
    for at in range(begin, rows, CHUNK):
        ledger._db.write(_add, at, min(at + CHUNK, rows))
    ledger.recount(fix=True)
    ledger._db.write(_people)
    _settle(ledger)


def _settle(ledger: Ledger) -> None:
    """What the engine would do later by itself, and so in the middle of a measurement: statistics and checkpoint."""
    words = ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)") if ledger._db.is_sqlite else ("VACUUM ANALYZE", "CHECKPOINT")
    raw = ledger._db.engine.raw_connection()
    driver: Any = raw.driver_connection
    if not ledger._db.is_sqlite:
        driver.autocommit = True
    for word in words:
        driver.execute(word)
    if not ledger._db.is_sqlite:
        driver.autocommit = False
    raw.close()


def _add(c: Connection, begin: int, end: int) -> None:
    epoch = datetime(2025, 1, 1, tzinfo=UTC)
    launches, scopes = [], []
    for n in range(begin, end):
        launch_id, person = f"{n:032x}", f"p-{n % PEOPLE}"
        at = epoch + timedelta(seconds=n)
        launches.append(
            {
                "id": launch_id,
                "hub_boot_id": "past",
                "account_id": person,
                "user_name": person,
                "server_name": "",
                "profile": "basic",
                "backend": "local",
                "state": "running" if n < RUNNING else "ended",
                "target": "running",
                "created_at": at,
                "started_at": at,
                "ended_at": None if n < RUNNING else at,
                "request": {"version": 1},
                "source": "bench",
                "servers": 1,
                "cores_m": 500,
                "memory_bytes": 2**30,
                "gpus": 0,
            }
        )
        names = (f"user:{person}", f"group:group-{n % 97}", "group:everybody", "group:staff", "project:beamtime")
        scopes += [{"launch_id": launch_id, "scope": name} for name in names]
    c.execute(insert(launch), launches)
    c.execute(insert(launch_scope), scopes)


def _people(c: Connection) -> None:
    """Everybody was here before: her balance has a row, mostly of zeros."""
    empty = [{"scope": f"user:p-{n}"} for n in range(PEOPLE)] + [{"scope": f"group:group-{n}"} for n in range(97)]
    c.execute(text("INSERT INTO balance VALUES (:scope, 0, 0, 0, 0) ON CONFLICT DO NOTHING"), empty)
