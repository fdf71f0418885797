"""Brings a database to the schema of this version, one process at a time; or tells why it cannot be used.

The version lies in our own table ``daas_alembic_version``: a hub may keep its database in the same place.
"""

from __future__ import annotations

import logging
import pkgutil

from sqlalchemy import Connection, inspect, select, text

from daas_hub.core.errors import ConfigError

from .engine import Database
from .migrations import versions
from .schema import ledger_info

VERSION_TABLE = "daas_alembic_version"
_LOCK_KEY = 0x64616173
"""The PostgreSQL advisory lock that upgrades take ("daas")."""


def upgrade(db: Database) -> bool:
    """Upgrade to the newest revision; True where anything was done. Raises ConfigError, LedgerBusy."""
    return db.write(_upgrade)


def check(db: Database) -> None:
    """Raise ConfigError unless this code can use the schema that is there."""
    db.read(_check)


def head() -> str:
    """The revision that this code was written for: the last of ``r0009_what.py``, by their names.

    Services and commands only compare it, and alembic would be a fifth of what they import.
    """
    return max(module.name[1:5] for module in pkgutil.iter_modules(versions.__path__, "") if module.name[:1] == "r")


def current(c: Connection) -> str:
    """The revision that the database has; empty: none yet."""
    if not inspect(c).has_table(VERSION_TABLE):
        return ""
    return c.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or ""  # noqa: S608  a constant


def _upgrade(c: Connection) -> bool:
    if c.dialect.name == "postgresql":
        c.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    now, wanted = current(c), head()
    if now >= wanted:
        _check(c)
        return False
    from alembic import command
    from alembic.config import Config

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", "daas_hub.db:migrations")
    config.attributes["connection"] = c
    command.upgrade(config, "head")
    return True


def _check(c: Connection) -> None:
    now, mine = current(c), head()
    if now == mine:
        return
    if now < mine:
        there = f"is of revision {now}" if now else "has no tables yet"
        raise ConfigError(f"The ledger {there}; this version needs {mine}: run `daas-hub db upgrade`.")
    oldest = c.execute(select(ledger_info.c.value).where(ledger_info.c.key == "runs_with")).scalar() or now
    if mine < oldest:
        raise ConfigError(
            f"The ledger is of revision {now} and runs with {oldest} or newer; this version has {mine}: update it."
        )
