"""The end of all that somebody has in the hub: sessions, tokens, ways to her servers (design.md §4.8).

JupyterHub has no call for it. Cookies are good as long as the user's ``cookie_id`` is the one in them; an OAuth code
that was given away a moment ago would become a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any, Protocol

from jupyterhub import orm
from jupyterhub.utils import new_token

PROXY_WITHIN_S = 10.0


class EndAccess(Protocol):
    """Ends what a person has here, servers and all; the hub's authenticator has it as ``end_access``."""

    def __call__(self, handler: Any, user: Any, *, why: str, by: str, servers: bool = True) -> Awaitable[None]:
        """``why`` completes "was stopped: …" for her; ``by``: who found it out."""
        ...


def end_sessions(handler: Any, user: Any, *, keep_servers: bool = False) -> None:
    """Cookies of before are no more, nor are tokens; ``keep_servers`` leaves her servers the ones they need."""
    user.orm_user.cookie_id = new_token()
    kept = _tokens_of_servers(handler.db, user) if keep_servers else ()
    for token in list(user.orm_user.api_tokens):
        if token.id not in kept:
            handler.db.delete(token)
    for code in list(user.orm_user.oauth_codes):
        handler.db.delete(code)
    # The next refresh asks, whoever's request it is for.
    user._auth_refreshed = None
    handler.db.commit()


def _tokens_of_servers(db: Any, user: Any) -> Collection[int]:
    own = [orm.APIToken.find(db, s.api_token) for s in user.spawners.values() if s.active and s.api_token]
    return {token.id for token in own if token is not None}


async def close_ways(handler: Any, user: Any) -> None:
    """Take her servers' routes out of the proxy now. What does not work is logged: stopping them does it again."""
    active = [name for name, spawner in user.spawners.items() if spawner.active]

    async def close(name: str) -> None:
        try:
            async with asyncio.timeout(PROXY_WITHIN_S):
                await handler.proxy.delete_user(user, name)
        except Exception as error:
            # Whatever an external proxy does: nobody's end waits for it.
            handler.log.error("The way to server %r of %s is not closed yet: %r", name, user.name, error)

    await asyncio.gather(*map(close, active))
