"""Which hub a ledger belongs to. Two hubs on one ledger would act on each other's launches."""

from __future__ import annotations

from sqlalchemy import Connection, select

from daas_hub.core.errors import ConfigError
from daas_hub.core.naming import new_id

from .engine import insert
from .schema import ledger_info


def claim(c: Connection, hub_id: str) -> str:
    """The ledger's own id; both are written down the first time. Raises ConfigError for another hub's ledger."""
    for key, value in (("id", new_id()), ("hub_id", hub_id)):
        c.execute(insert(c, ledger_info).values(key=key, value=value).on_conflict_do_nothing())
    rows = c.execute(select(ledger_info.c.key, ledger_info.c.value)).all()
    known = {row.key: row.value for row in rows}
    if known["hub_id"] != hub_id:
        raise ConfigError(
            f"DaasHub.hub_id is {hub_id!r}, but this ledger belongs to the hub {known['hub_id']!r}: set hub_id back, "
            "or give this hub a ledger of its own (DaasHub.ledger_url). Two hubs on one ledger would stop each other's "
            "servers. Where the hub was renamed and none of its servers runs any more, delete the row 'hub_id' of the "
            "ledger's table ledger_info."
        )
    return str(known["id"])
