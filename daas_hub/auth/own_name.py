"""Nobody becomes a hub user of somebody else by being called so."""

from __future__ import annotations

import time
from typing import Any

from tornado import web

from daas_hub.auth.common import identity_in
from daas_hub.core.models import Identity

NAME_TAKEN = (
    "Your account is called {name}, and somebody else has this name here. Nothing of hers is shown to you. "
    "An administrator of this service can tell whose it is."
)
CLAIM_HELD_S = 120.0
"""How long a name that somebody is just getting is hers, until the hub has a user of that name."""


class OwnNames:
    """Which names are just being given to whom."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[tuple[str, str], float]] = {}

    async def require(self, handler: Any, authenticator: Any, identity: Identity) -> None:
        """Raise HTTPError 409 where the hub user of this name is another identity's."""
        key, now = (identity.issuer, identity.subject), time.monotonic()
        hers = authenticator.normalize_username(identity.name)
        self._names = {name: held for name, held in self._names.items() if now - held[1] < CLAIM_HELD_S}
        holder = handler.find_user(hers)
        state = await holder.get_auth_state() if holder is not None else None
        stored = identity_in(state)
        theirs = stored is not None and (stored.issuer, stored.subject) != key
        # A state that cannot be read is somebody's, too.
        unreadable = holder is not None and stored is None and holder.encrypted_auth_state is not None
        if theirs or unreadable or self._names.setdefault(hers, (key, now))[0] != key:
            authenticator.log.warning("%s %s is refused the name %s: it is another one's", *key, hers)
            raise web.HTTPError(409, NAME_TAKEN.format(name=hers))
