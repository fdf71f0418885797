"""The tables of the allocator: what was given away once, for ever. Triggers on both engines refuse to change them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, text

from .schema import metadata
from .types import UtcTime

allocated_ids = Table(
    "allocated_ids",
    metadata,
    # uid or gid
    Column("kind", String(8), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    # Whose it is. Empty: it was in use somewhere else already, and `note` says where.
    Column("issuer", String(500), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("given_at", UtcTime, nullable=False),
    Index(
        "uq_allocated_ids_owner",
        "kind",
        "issuer",
        "subject",
        unique=True,
        sqlite_where=text("subject <> ''"),
        postgresql_where=text("subject <> ''"),
    ),
    sqlite_with_rowid=False,
)
"""Numbers, also of people whose account is gone."""

allocated_names = Table(
    "allocated_names",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("issuer", String(500), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("given_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)
"""Login names that belong to a number, each one that a person ever had."""
