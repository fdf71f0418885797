"""Alembic's environment for the ledger; ``daas_hub.db.migrate`` runs it."""
