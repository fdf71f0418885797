"""When a link was last used and what its identity is called; one open request for each identity.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0006 writes neither column and no requests."""
    op.add_column("links", sa.Column("label", sa.Text(), nullable=False, server_default=""))
    op.add_column("links", sa.Column("last_used_at", sa.BigInteger(), nullable=True))
    still_open = sa.text("decided_at IS NULL")
    op.create_index(
        "uq_requests_open",
        "requests",
        ["kind", "subject"],
        unique=True,
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
