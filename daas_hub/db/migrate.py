"""Brings a database to the schema of this version, one process at a time; or tells why it cannot be used.

The version lies in our own table ``daas_alembic_version``: a hub may keep its database in the same place.
"""

from __future__ import annotations

import logging

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from daas_hub.core.errors import ConfigError

from .engine import Database
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
    """The revision that this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(c: Connection) -> str:
    """The revision that the database has; empty: none yet."""
    if not inspect(c).has_table(VERSION_TABLE):
        return ""
    return c.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() or ""  # noqa: S608  a constant


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "daas_hub.db:migrations")
    return config


def _upgrade(c: Connection) -> bool:
    if c.dialect.name == "postgresql":
        c.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    now, wanted = current(c), head()
    if now >= wanted:
        _check(c)
        return False
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = _config()
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
