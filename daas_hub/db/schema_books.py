"""The table of ended launches whose place could not account for them yet."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Table

from .schema import metadata
from .types import UtcTime

books_due = Table(
    "books_due",
    metadata,
    Column("launch_id", ForeignKey("launch.id"), primary_key=True),
    Column("since", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Their use is as it was counted here, or as their job told it, until the reconciler has asked again."""
