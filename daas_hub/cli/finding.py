"""One line of ``daas-hub doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what would mend it."""

    level: Literal["ok", "note", "error"]
    what: str
    found: str
    fix: str = ""
