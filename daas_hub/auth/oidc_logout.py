"""Back-channel logout: the provider itself says that a session has ended, without the person's browser.

(OpenID Connect Back-Channel Logout 1.0.) Her sessions in the hub end, and every token but those that her running
servers need themselves: they go on, and nobody gets in without signing in again.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers import BaseHandler
from jupyterhub.utils import new_token

from daas_hub.auth.common import identity_in
from daas_hub.auth.oidc_tokens import tokens_of
from daas_hub.core.errors import DirectoryUnavailable, TokenRefused

REMEMBERED_S = 600
MAX_REMEMBERED = 10_000
"""Logout tokens that were used, by ``jti``; each is good for a minute or two, and only the provider can make one."""


class Once:
    """Whether a logout token comes for the first time."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def first(self, jti: str) -> bool:
        """True once within its life."""
        now = time.monotonic()
        while self._seen and (
            len(self._seen) >= MAX_REMEMBERED or next(iter(self._seen.values())) < now - REMEMBERED_S
        ):
            self._seen.popitem(last=False)
        new = jti not in self._seen
        self._seen[jti] = now
        return new


class BackchannelLogoutHandler(BaseHandler):
    """``POST`` by the provider; the token's signature is what counts, no cookie is looked at."""

    def initialize(self, way: Any = None) -> None:
        """``way``: the authenticator whose provider this is."""
        self.way = way or self.authenticator

    def check_xsrf_cookie(self) -> None:
        """A provider has no cookies of ours, and a browser's are of no use here."""

    async def post(self) -> None:
        """200 when her sessions have ended, also when there were none; 400 for a token that is not good."""
        self.set_header("Cache-Control", "no-store")
        try:
            tokens = self.get_body_arguments("logout_token")
            if len(tokens) != 1:
                raise TokenRefused("", reason="form", log_message=f"{len(tokens)} logout tokens")
            claims = await self.way.logout_claims(tokens[0])
        except TokenRefused as error:
            self.log.warning("A back-channel logout is refused: %s", error.log_message)
            self._answer(400, "invalid_request")
            return
        except DirectoryUnavailable as error:
            self.log.error("A back-channel logout cannot be judged: %s", error.log_message)
            self._answer(503, "temporarily_unavailable")
            return
        async for user in self._people(claims):
            self._end(user)
            self.log.warning("The provider ended the sign-in of %s: her sessions and tokens here ended, too", user.name)
        self.finish()

    def _answer(self, status: int, error: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": error}))

    async def _people(self, claims: dict[str, Any]) -> AsyncIterator[Any]:
        """Whoever came as this subject; by the session's id where the token has no subject."""
        for orm_user in self.db.query(orm.User).filter(orm.User.encrypted_auth_state.isnot(None)).all():
            user = self._user_from_orm(orm_user)
            state = await user.get_auth_state()
            came_by, tokens = identity_in(state, "came_by"), tokens_of(state)
            if came_by is None or tokens is None or came_by.issuer != claims["iss"]:
                continue
            if came_by.subject == claims["sub"] if "sub" in claims else tokens["sid"] == claims["sid"]:
                yield user

    def _end(self, user: Any) -> None:
        """Cookies of before are no more; tokens, too, but the servers' own."""
        user.orm_user.cookie_id = new_token()
        own = [orm.APIToken.find(self.db, s.api_token) for s in user.spawners.values() if s.active and s.api_token]
        kept = {token.id for token in own if token is not None}
        for token in list(user.orm_user.api_tokens):
            if token.id not in kept:
                self.db.delete(token)
        # The next refresh asks the provider, whoever's request it is for.
        user._auth_refreshed = None
        self.db.commit()
