"""Gives the authenticator what it needs to link: the ledger, and how an account is recorded."""

from __future__ import annotations

from typing import Any

from daas_hub.accounts.linking import Linking
from daas_hub.core.models import Identity
from daas_hub.db.accounts import AccountRow
from daas_hub.spawners import people
from daas_hub.spawners.runtime import DaasHub, utcnow
from daas_hub.spawners.spawner import DaasSpawner

from .link_letters import DECIDED, UNLINKED, LinkLetters, TellDecided, TellUnlinked


def give(app: Any, site: DaasHub) -> None:
    """Once, before the hub serves; only where the authenticator links at all."""
    authenticator = app.authenticator
    # Not by its class: to know that, what a hub without providers never needs would have to be installed.
    if not hasattr(authenticator, "linking"):
        return
    settings: DaasSpawner = app.spawner_class(config=app.config)

    async def record(identity: Identity) -> AccountRow:
        key = (identity.issuer, identity.subject)
        stored: AccountRow | None = await site.run(site.ledger.accounts.by_identity, *key)
        if stored is not None:
            return stored
        name = authenticator.normalize_username(identity.name)
        return await people.record(site, settings, authenticator, identity, name, proof="directory entry")

    told = LinkLetters(site, authenticator, authenticator.letters)
    authenticator.linking = Linking(site.ledger, site.run, record, site.keep, utcnow, told)
    theirs, known = authenticator.get_handlers, {"site": site, "settings": settings}
    ours = [(UNLINKED, TellUnlinked, known), (DECIDED, TellDecided, known)]
    authenticator.get_handlers = lambda hub: [*theirs(hub), *ours]
