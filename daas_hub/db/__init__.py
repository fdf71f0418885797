"""The ledger: the state of record. The hub's own database is a cache that can be lost."""
