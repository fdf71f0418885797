"""Groups that this hub keeps itself, and the names of the directory's.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0005 does not know the tables: nobody has a local group there."""
    op.create_table(
        "local_groups",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_local_groups"),
    )
    op.create_table(
        "local_group_members",
        sa.Column("group_name", sa.String(length=63), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_name"], ["local_groups.name"], name="fk_local_group_members_group_name"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_local_group_members_account_id"),
        sa.PrimaryKeyConstraint("group_name", "account_id", name="pk_local_group_members"),
    )
    op.create_index("ix_local_group_members_account_id", "local_group_members", ["account_id"])
    op.create_table(
        "directory_groups",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_directory_groups"),
    )
