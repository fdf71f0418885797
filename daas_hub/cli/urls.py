"""How the ledger's URL is shown, and whether there is a ledger: looked at without touching it."""

from __future__ import annotations

import re
from pathlib import Path

from daas_hub.core.errors import ConfigError
from daas_hub.db.engine import Database

_QUERY = re.compile(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token)[^=&]*=)[^&\s]*")
_AUTHORITY = re.compile(r"//[^?\s]*@")


def masked(url: str) -> str:
    """The URL without what stands before its host, and without the value of every part that is a password."""
    shown = _QUERY.sub(r"\1***", url)
    return shown if shown.startswith("sqlite") else _AUTHORITY.sub("//", shown).partition("://")[2]


def absent(db: Database) -> bool:
    """Whether an SQLite ledger is not there yet; an empty file is none. Opening it would make it."""
    file = Path(db.engine.url.database or "")
    return db.is_sqlite and not (file.is_file() and file.stat().st_size)


def require(url: str) -> None:
    """Raise ConfigError where there is no ledger at that URL."""
    db = Database(url, busy_timeout_s=1.0)
    try:
        if absent(db):
            raise ConfigError(f"There is no ledger at {masked(url)}: check --url or DAAS_LEDGER_URL.")
    finally:
        db.close()
