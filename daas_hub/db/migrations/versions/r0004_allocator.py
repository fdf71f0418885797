"""What the allocator gave away: numbers and names, append-only.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0003 does not know the tables: it gives nothing away."""
    _tables()
    for table in ("allocated_ids", "allocated_names"):
        _append_only(table)


def _tables() -> None:
    op.create_table(
        "allocated_ids",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "number", name="pk_allocated_ids"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "uq_allocated_ids_owner",
        "allocated_ids",
        ["kind", "issuer", "subject"],
        unique=True,
        sqlite_where=sa.text("subject <> ''"),
        postgresql_where=sa.text("subject <> ''"),
    )
    op.create_table(
        "allocated_names",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_allocated_names"),
        sqlite_with_rowid=False,
    )


def _append_only(table: str) -> None:
    said = f"{table} is append-only: what was given away once is never given away again"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE FUNCTION daas_{table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{said}'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER daas_{table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION daas_{table}_append_only()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER daas_{table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{said}'); END"
        )
