"""Tokens for the site's other services, from the provider that a person came by (RFC 8693).

Her access token is exchanged; it is kept fresh by the one renewal that everything else waits for as well, because a
second one beside it would be a reuse of her refresh token, which ends her sign-in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from traitlets import Dict, HasTraits

from daas_hub.auth import oidc_tokens
from daas_hub.auth.common import OneAtATime, identity_in
from daas_hub.clients.oidc import Json, Provider, unavailable
from daas_hub.core import site_tokens
from daas_hub.core.errors import SessionRevoked, TokenRefused

AT_ONCE = 8
"""Exchanges of one provider at the same time: after a restart everybody's are due, and sign-ins must not wait."""
LEFT_S = 10
"""An access token with less than this left is renewed before it is exchanged."""


class SiteTokensByProvider(HasTraits):
    """A mixin of ``DaasOIDCAuthenticator``."""

    issuer: Any
    provider: Provider
    _refreshing: OneAtATime
    _latest: oidc_tokens.Latest
    _refresh: Any

    site_tokens = Dict(
        help="Tokens for other services of the site that every server gets, kept fresh, as files: name → what the "
        "provider is asked for, `audience`, `resource` or `scope`; for example `{'storage': {'audience': 'storage'}}`. "
        "Each is made of her own access token by token exchange (RFC 8693), which the provider must allow this "
        "client. Empty: there are none."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._wanted = site_tokens.wanted(self.site_tokens)
        self._exchanging = asyncio.Semaphore(AT_ONCE)
        self._over: dict[str, str] = {}
        """Of each hub user the sign-in that is over, as far as tokens for services go."""

    @property
    def site_token_names(self) -> tuple[str, ...]:
        """The tokens that servers get."""
        return tuple(self._wanted)

    async def site_token(self, user: Any, name: str) -> tuple[str, float]:
        """A fresh one, and for how many seconds it is good.

        Raises SessionRevoked where she must sign in again, TokenRefused where the provider does not give it,
        ProviderUnavailable.
        """
        async with self._exchanging:
            tokens = await self._access(user)
            try:
                answer = await self.provider.exchange_token(tokens["access_token"], self._wanted[name].form)
            except SessionRevoked:
                answer = await self._once_more(user, tokens, name)
        value, lasts_s = answer["access_token"], site_tokens.seconds_in(answer.get("expires_in"))
        if why := site_tokens.unfit(value, lasts_s):
            raise unavailable("token_exchange", f"its token {name} cannot be handed over: {why}")
        return value, lasts_s

    async def site_tokens_over(self, user: Any) -> None:
        """None are made of the sign-in that she has now; a new one counts."""
        tokens = oidc_tokens.tokens_of(await user.get_auth_state())
        if tokens is not None:
            self._over[user.name] = tokens["session"]

    async def _once_more(self, user: Any, spent: Json, name: str) -> Json:
        """The provider knows her access token no more: with a renewed one, if there is one."""
        tokens = await self._renew(user, spent)
        try:
            return await self.provider.exchange_token(tokens["access_token"], self._wanted[name].form)
        except SessionRevoked as error:
            # It is not a minute old and her sign-in is good: the question itself is refused.
            raise TokenRefused("", reason="invalid_request", log_message=error.log_message) from error

    async def _access(self, user: Any) -> Json:
        """Tokens with an access token that is good for a while."""
        tokens = await self._hers(user)
        if tokens["expires_at"] is None or tokens["expires_at"] - time.time() > LEFT_S:
            return tokens
        return await self._renew(user, tokens)

    async def _renew(self, user: Any, spent: Json) -> Json:
        """What the one renewal gave. Raises SessionRevoked, ProviderUnavailable."""
        found, over = await self._refreshing.do(user.name, lambda: self._refresh(user))
        if over or not found:
            self._over[user.name] = spent["session"]
            raise SessionRevoked(site_tokens.SIGN_IN, log_message=f"the sign-in of {user.name} is over")
        tokens = await self._hers(user)
        if tokens["access_token"] == spent["access_token"]:
            raise unavailable("refresh", f"no fresh access token of {user.name} could be had")
        return tokens

    async def _hers(self, user: Any) -> Json:
        """The newest tokens of her sign-in by this provider. Raises SessionRevoked where there is none."""
        state = await user.get_auth_state()
        came_by, stored = identity_in(state, "came_by"), oidc_tokens.tokens_of(state)
        if came_by is None or stored is None or came_by.issuer != self.issuer:
            raise SessionRevoked(site_tokens.ELSEWHERE)
        if state["daas"].get("ended_at") or self._over.get(user.name) == stored["session"]:
            raise SessionRevoked(site_tokens.SIGN_IN)
        return self._latest.of(user.name, stored)


class SiteTokensOfWays(HasTraits):
    """A mixin of ``DaasAuthenticator``: the provider that she came by is the one that is asked."""

    providers: Mapping[str, Any]
    _way: Any

    @property
    def site_token_names(self) -> tuple[str, ...]:
        """Those of all providers; who came by another way is told so in their places."""
        return tuple({name: None for way in self.providers.values() for name in way.authenticator.site_token_names})

    async def site_token(self, user: Any, name: str) -> tuple[str, float]:
        """As ``SiteTokensByProvider.site_token``."""
        way = self._way(await user.get_auth_state())
        if name not in getattr(way, "site_token_names", ()):
            raise SessionRevoked(site_tokens.ELSEWHERE)
        found: tuple[str, float] = await way.site_token(user, name)
        return found

    async def site_tokens_over(self, user: Any) -> None:
        """As ``SiteTokensByProvider.site_tokens_over``."""
        way = self._way(await user.get_auth_state())
        if hasattr(way, "site_tokens_over"):
            await way.site_tokens_over(user)
