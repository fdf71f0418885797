"""Runs the revisions on the connection that ``daas_hub.db.migrate`` hands over, inside of its transaction."""

from __future__ import annotations

from alembic import context

from daas_hub.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="daas_alembic_version",
    transactional_ddl=True,
)
# The caller's transaction is the only one: either all revisions are there afterwards, or none.
context.run_migrations()
