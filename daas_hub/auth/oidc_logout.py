"""Back-channel logout: the provider itself says that a session has ended, without the person's browser.

(OpenID Connect Back-Channel Logout 1.0.) It is what the sweep does with whoever was disabled, at once: sessions, tokens
and servers end, homes are kept.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers import BaseHandler

from daas_hub.auth.common import identity_in
from daas_hub.auth.ending import EndAccess, end_sessions
from daas_hub.auth.oidc_tokens import tokens_of
from daas_hub.core.errors import DirectoryUnavailable, LedgerBusy, TokenRefused

WHY = "your sign-in at the identity provider was ended there"
REMEMBERED_S = 600
MAX_REMEMBERED = 10_000
"""Logout tokens that were used, by ``jti``; each is good for a minute or two, and only the provider can make one."""


class Once:
    """Whether something comes for the first time: a logout token; who has just left by the hub's own page."""

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

    def forget(self, jti: str) -> None:
        """It was not acted on: it may come again."""
        self._seen.pop(jti, None)

    def lately(self, key: str) -> bool:
        """Whether it came within its life."""
        return self._seen.get(key, -math.inf) > time.monotonic() - REMEMBERED_S


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
            claims = self._with_subject(await self.way.logout_claims(tokens[0]))
        except TokenRefused as error:
            self.log.warning("A back-channel logout is refused: %s", error.log_message)
            self._answer(400, "invalid_request")
            return
        except DirectoryUnavailable as error:
            self.log.error("A back-channel logout cannot be judged: %s", error.log_message)
            self._answer(503, "temporarily_unavailable")
            return
        people = [user async for user in self._people(claims)]
        if not people and "sub" not in claims:
            self.log.warning("The provider ended a session that is nobody's last sign-in here, and does not say whose")
        for user in people:
            await self._end(user)
            self.log.warning("The provider ended the sign-in of %s: what she has here ends, too", user.name)
        try:
            await self._end_others(claims, {user.name for user in people})
        except LedgerBusy as error:
            self.log.error("A back-channel logout is acted on in part: %s", error.log_message)
            # The provider may say it again.
            self.way.forget_logout(claims)
            self._answer(503, "temporarily_unavailable")
            return
        self.finish()

    def _with_subject(self, claims: dict[str, Any]) -> dict[str, Any]:
        """A token that names a session only, as if it named whose it was: all her browsers are meant then."""
        subject = None if "sub" in claims else self.way.sessions.subject(claims["sid"])
        return claims if subject is None else {**claims, "sub": subject}

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

    async def _end_others(self, claims: dict[str, Any], ended: set[str]) -> None:
        """Whose last sign-in was by another way: one of her browsers may have come by this one. Raises LedgerBusy.

        What runs goes on: another way has let her in since, and it is asked about her.
        """
        name = await self.way.sites.user_of(claims["iss"], claims["sub"]) if "sub" in claims else ""
        user = self.find_user(name) if name and name not in ended else None
        if user is not None:
            end_sessions(self, user, keep_servers=True)
            self.log.warning("The provider ended a sign-in of %s: her sessions and tokens end", user.name)

    async def _end(self, user: Any) -> None:
        """The same end as for whoever left, but that a site may let what runs go on."""
        end: EndAccess | None = getattr(self.authenticator, "end_access", None)
        if end is None:
            end_sessions(self, user, keep_servers=True)
        else:
            # Whoever left by the hub's own page is told of by the provider, too, and her servers go on as ever.
            stops = self.way.logout_stops_servers and not self.way.own_logouts.lately(user.name)
            await end(self, user, why=WHY, by="provider", servers=stops)
