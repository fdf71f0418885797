"""The ledger's contract about its own schema: what the migrations make is what the code expects."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from daas_hub.core.errors import ConfigError
from daas_hub.db import migrate
from daas_hub.db.engine import Database
from daas_hub.db.ledger import Ledger
from daas_hub.db.schema import metadata


class SchemaContract:
    """Upgrades, and which versions go together."""

    def test_migrations_make_the_tables_of_the_code(self, url: str) -> None:
        Ledger.open(url).close()
        db = Database(url, busy_timeout_s=5)
        options = {"target_metadata": metadata, "version_table": migrate.VERSION_TABLE, "compare_type": True}
        with db.engine.connect() as c:
            assert compare_metadata(MigrationContext.configure(c, opts=options), metadata) == []
            assert migrate.current(c) == migrate.head()
        revisions = Config()
        revisions.set_main_option("script_location", "daas_hub.db:migrations")
        assert ScriptDirectory.from_config(revisions).get_heads() == [migrate.head()]
        assert migrate.upgrade(db) is False
        db.close()

    def test_a_ledger_belongs_to_one_hub(self, url: str) -> None:
        ledger = Ledger.open(url)
        id = ledger.claim("beam")
        ledger.close()
        again = Ledger.open(url)
        assert again.claim("beam") == id
        assert len(id) >= 16
        with pytest.raises(ConfigError, match="hub_id is 'other', but this ledger belongs to the hub 'beam': set"):
            again.claim("other")
        again.close()

    def test_the_hubs_own_tables_may_lie_beside(self, url: str) -> None:
        db = Database(url, busy_timeout_s=5)
        with db.engine.begin() as c:
            c.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            c.execute(text("INSERT INTO alembic_version VALUES ('4621fec11365')"))
        db.close()
        ledger = Ledger.open(url)
        assert ledger.launches() == []
        ledger.close()

    @pytest.mark.parametrize(("runs_with", "opens"), [("0001", True), ("9998", False)])
    def test_a_newer_schema_runs_with_the_version_before(self, url: str, runs_with: str, opens: bool) -> None:
        ledger = Ledger.open(url)
        ledger._db.write(lambda c: c.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")) and None)
        set_info = text("UPDATE ledger_info SET value = :value WHERE key = 'runs_with'")
        ledger._db.write(lambda c: c.execute(set_info, {"value": runs_with}) and None)
        ledger.close()
        for create in (True, False):
            if opens:
                Ledger.open(url, create=create).close()
            else:
                with pytest.raises(ConfigError, match="9998 or newer"):
                    Ledger.open(url, create=create)
