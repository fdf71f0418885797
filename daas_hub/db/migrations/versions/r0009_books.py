"""When a place will end a launch, notices that go with one, and launches that are still to be accounted for.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0008 knows neither, and counts what was asked."""
    op.add_column("launch", sa.Column("ends_at", sa.BigInteger(), nullable=True))
    op.add_column("notices", sa.Column("launch_id", sa.String(length=64), nullable=True))
    op.create_table(
        "books_due",
        sa.Column("launch_id", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["launch_id"], ["launch.id"], name="fk_books_due_launch_id"),
        sa.PrimaryKeyConstraint("launch_id", name="pk_books_due"),
    )
