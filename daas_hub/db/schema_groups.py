"""The tables of groups that this hub keeps itself, and the names that the directory's groups have."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from .schema import metadata
from .types import UtcTime, Words

local_groups = Table(
    "local_groups",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("description", Words, nullable=False, server_default=""),
    Column("made_by", Text, nullable=False),
    Column("made_at", UtcTime, nullable=False),
)

local_group_members = Table(
    "local_group_members",
    metadata,
    Column("group_name", ForeignKey("local_groups.name"), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("added_at", UtcTime, nullable=False),
    Index("ix_local_group_members_account_id", "account_id"),
)

directory_groups = Table(
    "directory_groups",
    metadata,
    Column("name", Words, primary_key=True),
    # The directory or provider that named it first.
    Column("issuer", String(500), nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)
"""Groups of which a member has signed in: no local group gets their names."""
