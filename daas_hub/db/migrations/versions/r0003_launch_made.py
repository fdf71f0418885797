"""What a launch was made of, and the end of its log where it failed.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Version 0002 does not know the columns and leaves them empty: nothing was reported, nothing kept."""
    op.add_column("launch", sa.Column("software", _JSON))
    op.add_column("launch", sa.Column("log", sa.Text()))
