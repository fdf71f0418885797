"""A process that stands in every writer's way: ``python -m tests.faults.ledger_hold URL SECONDS``."""

from __future__ import annotations

import sqlite3
import sys
import time

import psycopg


def main(url: str, seconds: float) -> None:
    """Hold a write transaction for so long."""
    if url.startswith("sqlite"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
        lite.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        lite.execute("COMMIT")
        lite.close()
        return
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as c:
        # One table that all of them need: two could be taken in another order than theirs, a deadlock.
        c.execute("LOCK TABLE launch IN EXCLUSIVE MODE")
        time.sleep(seconds)
        c.commit()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
