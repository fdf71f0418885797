"""Finds the launches that still have a log, by their end: kept logs are forgotten after some days.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Version 0004 does not use the index and keeps it right."""
    kept = sa.text("log IS NOT NULL")
    op.create_index("ix_launch_log_ended", "launch", ["ended_at"], sqlite_where=kept, postgresql_where=kept)
