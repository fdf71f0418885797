"""What a backend made of a volume: from then on it is never made anew where it is missing.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Version 0001 does not know the column and leaves it empty, which is what it means there."""
    op.add_column("volumes", sa.Column("made", _JSON))
