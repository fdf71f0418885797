"""Which identities were unlinked from which account: an issuer's word alone does not link them again.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0007 links by proof of both sides only, and does not know the table."""
    op.create_table(
        "ended_links",
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_ended_links_account_id"),
        sa.PrimaryKeyConstraint("issuer", "subject", "account_id", name="pk_ended_links"),
    )
