"""Sign-in with an OpenID provider: oauthenticator's flow, with everything that the provider sends proved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from jupyterhub.utils import url_path_join
from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from traitlets import Bool, Unicode, default

from daas_hub.auth import oidc_tokens
from daas_hub.auth.common import (
    OneAtATime,
    identity_in,
    maybe,
    model_of,
    refuse_unknown_settings,
    site_groups,
    try_again,
)
from daas_hub.auth.linked import AccountGone, NotLinked, ProvidersOwn, SiteIdentities
from daas_hub.auth.names import OneName
from daas_hub.auth.oidc_handlers import OIDCCallbackHandler, OIDCLoginHandler, OIDCLogoutHandler
from daas_hub.auth.oidc_logout import BackchannelLogoutHandler, Once
from daas_hub.auth.oidc_look import LooksByProvider
from daas_hub.auth.oidc_settings import REPLACED, OIDCSettings
from daas_hub.auth.oidc_site_tokens import SiteTokensByProvider
from daas_hub.auth.oidc_states import Pending, States
from daas_hub.auth.own_name import OwnNames
from daas_hub.clients.oidc import Json, Provider, unavailable
from daas_hub.core import id_token, oidc_claims
from daas_hub.core.errors import ConfigError, DirectoryUnavailable, LedgerBusy, SessionRevoked, TokenRefused
from daas_hub.core.linking import Proof
from daas_hub.core.models import Identity
from daas_hub.core.oidc_claims import GroupsElsewhere

NOT_OPEN = "You are signed in at your identity provider, but this service is not open to you. Ask its administrator."


class DaasOIDCAuthenticator(SiteTokensByProvider, LooksByProvider, OneName, OIDCSettings, GenericOAuthenticator):
    """Entry point ``daas-oidc``. The key of a person is (issuer, subject); every name is a label."""

    login_handler = OIDCLoginHandler
    callback_handler = OIDCCallbackHandler
    logout_handler = OIDCLogoutHandler

    way_name = Unicode(
        "",
        help="Name of this way of signing in, in its addresses (`/hub/oidc/<name>/login`), where a hub has several. "
        "Empty: `/hub/oauth_login` and `/hub/oauth_callback`, as with oauthenticator.",
    ).tag(config=True)

    logout_at_provider = Bool(
        True,
        help="After logging out of the hub go on to the provider's own logout page, where it has one. True, because "
        "otherwise the next click on its button signs in again without a question.",
    ).tag(config=True)

    logout_stops_servers = Bool(
        True,
        help="When the provider says that a sign-in has ended (back-channel logout), stop her servers, too; homes are "
        "kept. True, because it is how an identity provider tells that somebody must be out. False: her sessions and "
        "tokens end, what runs goes on; for providers that also say it at every ordinary logout.",
    ).tag(config=True)

    @default("manage_groups")
    def _groups_are_the_providers(self) -> bool:
        return True

    @default("enable_auth_state")
    def _identity_travels_in_it(self) -> bool:
        return True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_unknown_settings(
            self, "docs/reference/oidc.md", replaced=REPLACED, also=("GenericOAuthenticator", "OAuthenticator")
        )
        self.rules = self.claim_rules()
        self.provider = Provider(self.provider_settings())
        self.link_rule = self.rule_of_links()
        self.states = States(f"{self.way_name}\0{self.issuer}")
        self.sites: SiteIdentities = ProvidersOwn(self.issuer)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._refreshing = OneAtATime()
        self._latest = oidc_tokens.Latest()
        self.sessions = oidc_tokens.Sessions()
        self._logouts = Once()
        self._names = OwnNames()
        self.own_logouts = Once()

    # ------------------------------------------------------------ addresses

    def get_handlers(self, _app: Any) -> list[Any]:
        """Pages of this way; the one to log out is everybody's."""
        return [*self.way_handlers(), (r"/logout", self.logout_handler, {"way": self})]

    def way_handlers(self) -> list[Any]:
        """Login, call-back and back-channel logout, for an authenticator that holds several ways."""
        login, callback = self._paths()
        logout = f"/oidc/{self.way_name}/logout" if self.way_name else "/oidc/logout"
        pages = {login: self.login_handler, callback: self.callback_handler, logout: BackchannelLogoutHandler}
        return [(path, handler, {"way": self}) for path, handler in pages.items()]

    def _paths(self) -> tuple[str, str]:
        if self.way_name:
            return f"/oidc/{self.way_name}/login", f"/oidc/{self.way_name}/callback"
        return "/oauth_login", "/oauth_callback"

    def login_url(self, base_url: str) -> str:
        """The page that begins a sign-in."""
        url: str = url_path_join(base_url, self._paths()[0])
        return url

    def get_callback_url(self, handler: Any = None) -> str:
        """What is registered at the provider; by the request's own host where it is not configured."""
        if self.oauth_callback_url:
            return str(self.oauth_callback_url)
        if handler is None:
            raise ConfigError("DaasOIDCAuthenticator.oauth_callback_url must be set to be used outside a request.")
        public = handler.settings.get("public_url")
        base = (
            f"{public.scheme}://{public.netloc}" if public else f"{handler.request.protocol}://{handler.request.host}"
        )
        return base + str(url_path_join(handler.hub.base_url, self._paths()[1]))

    def authorize_params(self, pending: Pending) -> dict[str, str]:
        """What goes along to the provider; ours come last and cannot be replaced by a setting."""
        ours = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": pending.redirect_uri,
            "scope": " ".join(self.scope),
            "state": pending.state,
            "code_challenge": pending.challenge,
            "code_challenge_method": "S256",
        }
        if not self.endpoints:
            ours["nonce"] = pending.nonce
        if pending.anew:
            ours |= {"prompt": "login", "max_age": "0"}
        return {**self.extra_authorize_params, **ours}

    # ------------------------------------------------------------ sign in

    async def authenticate(self, handler: Any, data: Any = None, **_more: Any) -> dict[str, Any]:
        """The model of whoever the code is of. Raises TokenRefused, NotLinked, AccountGone, LinkRefused,
        ProviderUnavailable, HTTPError 409."""
        pending: Pending = data["pending"]
        try:
            async with asyncio.timeout(self.login_within_s):
                came_by, tokens = await self._came(data["code"], pending)
                self.sessions.remember(tokens, came_by.subject)
                site = await self.sites.site_identity(came_by, Proof.read(pending.proof))
                site = site or await self.sites.vouched(handler, came_by)
        except TimeoutError as error:
            raise unavailable("slow", f"a sign-in took longer than {self.login_within_s:g} s") from error
        if site is None:
            raise NotLinked(came_by, tokens)
        if (site.issuer, site.subject) == (came_by.issuer, came_by.subject):
            await self._names.require(handler, self, site)
        try:
            return await site_groups.united(self, site, lambda identity: self.auth_model(identity, came_by, tokens))
        except LedgerBusy as error:
            raise try_again(error) from error

    async def _came(self, code: str, pending: Pending) -> tuple[Identity, Json]:
        answer = await self.provider.exchange(code, verifier=pending.verifier, redirect_uri=pending.redirect_uri)
        if self.endpoints:
            if pending.anew:
                raise TokenRefused("", reason="auth_time", log_message="only OpenID Connect says when she signed in")
            claims = await self.provider.userinfo(answer["access_token"])
        else:
            since = pending.begun_at if pending.anew else None
            claims = await self._checked(answer, nonce=pending.nonce, signed_in_since=since)
            if "userinfo_endpoint" in await self.provider.metadata():
                claims = oidc_claims.same_person(claims, await self._userinfo(answer))
        return await self._identity(claims, answer), oidc_tokens.first(answer, claims)

    async def _userinfo(self, answer: Json) -> Json:
        try:
            return await self.provider.userinfo(answer["access_token"])
        except SessionRevoked as error:
            raise unavailable(
                "userinfo", f"it refuses the access token that it just gave: {error.log_message}"
            ) from error

    async def _checked(self, answer: Json, **expected: Any) -> Json:
        """The claims of the id_token in a token endpoint's answer. Raises TokenRefused, ProviderUnavailable."""
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise TokenRefused("", reason="id_token", log_message="the provider gave no id_token; is openid in scope?")
        wanted = self._expected(access_token=answer["access_token"], **expected)
        keys = await self.provider.keys_for(token)
        try:
            return id_token.check(token, keys, wanted, self.now())
        except TokenRefused as error:
            if error.reason != "signature":
                raise
        await self.provider.forget_keys()
        return id_token.check(token, await self.provider.keys_for(token), wanted, self.now())

    def _expected(self, **more: Any) -> id_token.Expected:
        algorithms = frozenset(self.algorithms)
        return id_token.Expected(
            self.issuer, self.client_id, algorithms=algorithms, leeway_s=self.clock_leeway_s, **more
        )

    async def logout_claims(self, token: str) -> Json:
        """Whose session the provider ended. Raises TokenRefused, also for a token that came before."""
        keys = await self.provider.keys_for(token)
        claims = id_token.check_logout_token(token, keys, self._expected(), self.now())
        if not self._logouts.first(claims["jti"]):
            raise TokenRefused("", reason="jti", log_message="a logout token came a second time")
        return claims

    def forget_logout(self, claims: Json) -> None:
        """What could not be acted on may be said again."""
        self._logouts.forget(claims["jti"])

    async def _identity(self, claims: Json, answer: Json) -> Identity:
        try:
            return oidc_claims.identity_of(claims, self.rules)
        except GroupsElsewhere as error:
            if not self.groups_overage_url:
                raise oidc_claims.no_groups("there are too many for a token, and no groups_overage_url") from error
        groups = await self.provider.groups_from(self.groups_overage_url, answer["access_token"])
        return oidc_claims.identity_of(claims, self.rules, groups)

    def auth_model(self, site: Identity, came_by: Identity, tokens: Json, user_name: str = "") -> dict[str, Any]:
        """What the hub stores: who she is, how she came, and the tokens, all encrypted."""
        return model_of(
            self.sites.rules(site) or self, site, user_name, came_by=asdict(came_by), tokens=tokens, way=self.way_name
        )

    def _rules(self, auth_model: dict[str, Any] | None) -> Any | None:
        site = identity_in(auth_model["auth_state"]) if auth_model is not None else None
        return self.sites.rules(site) if site is not None else None

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Allowed by name, by group, or as an administrator; else 403 with a sentence.

        Whom a directory knows is allowed by the directory's lists, by whatever way she came.
        """
        theirs = self._rules(auth_model)
        if theirs is not None:
            return bool(await theirs.check_allowed(username, auth_model))
        if auth_model is not None and await maybe(super().check_allowed(username, auth_model)):
            return True
        raise web.HTTPError(403, NOT_OPEN)

    async def check_blocked_users(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Blocked by name or by group; that beats every allowance, an administrator's too."""
        theirs = self._rules(auth_model)
        if theirs is not None:
            await theirs.check_blocked_users(username, auth_model)
        came_by = identity_in(auth_model["auth_state"], "came_by") if auth_model is not None else None
        groups = {*auth_model["groups"], *(came_by.groups if came_by else ())} if auth_model is not None else set()
        if await maybe(super().check_blocked_users(username, auth_model)) and not groups & self.blocked_groups:
            return True
        raise web.HTTPError(403, NOT_OPEN)

    # ------------------------------------------------------------ later

    async def refresh_user(self, user: Any, handler: Any = None, **_more: Any) -> bool | dict[str, Any]:
        """False where the provider says that it is over, or she is no longer allowed; unreachable: nothing changes.

        Any number of requests at once are one question. Where the site has a directory that still knows her, only her
        browser must sign in again: her tokens and servers go by the directory (decision 0107).
        """
        found: bool | dict[str, Any]
        found, over = await self._refreshing.do(user.name, lambda: self._refresh(user))
        return False if over and _own_browser(user, handler) else found

    async def _refresh(self, user: Any) -> tuple[bool | dict[str, Any], bool]:
        """The answer, and whether the provider ended the sign-in."""
        state = await user.get_auth_state()
        came_by, stored = identity_in(state, "came_by"), oidc_tokens.tokens_of(state)
        if came_by is None or stored is None or came_by.issuer != self.issuer:
            # No sign-in of this way is on record (or a crypt key is gone): sign in again.
            return False, False
        tokens, over, clear = self._latest.of(user.name, stored), False, True
        try:
            came_by, tokens = await self._renewed(user, state, came_by, tokens)
        except SessionRevoked as error:
            if await self._signed_in_again(user, tokens):
                return True, False
            over = True
            self.log.warning("The provider ended the sign-in of %s: %s", user.name, error.log_message)
        except (DirectoryUnavailable, TokenRefused) as error:
            # What fails a check is no answer about her: as unclear as none at all.
            clear = False
            self.log.warning("%s stays signed in as she was: %s", user.name, error.log_message)
        if not self.sites.independent and (over or not clear):
            return not over, over
        # Newer ones may have come before something was unclear.
        tokens = self._latest.of(user.name, tokens)
        found = await self._as_the_site_says(user, came_by, tokens, over)
        # What was said of an earlier sign-in, while it was asked about, is nothing about the one that counts.
        return (True, False) if await self._signed_in_again(user, tokens) else (found, over)

    async def _as_the_site_says(self, user: Any, came_by: Identity, tokens: Json, over: bool) -> bool | dict[str, Any]:
        try:
            site = await self.sites.site_identity(came_by)
        except AccountGone as error:
            self.log.warning("%s is signed in no longer: %s", user.name, error)
            return False
        except DirectoryUnavailable as error:
            self.log.warning("%s stays as she was: %s", user.name, error.log_message)
            return not over
        if site is None:
            self.log.warning("%s has no account here any more", user.name)
            return False
        # A hub user keeps her name; what runs as her goes by the identity.
        try:
            model = await site_groups.united(
                self, site, lambda identity: self.auth_model(identity, came_by, tokens, user.name)
            )
            await self.check_blocked_users(user.name, model)
            await self.check_allowed(user.name, model)
        except LedgerBusy as error:
            self.log.warning("%s stays as she was: %s", user.name, error.log_message)
            return not over
        except web.HTTPError:
            self.log.warning("%s is not allowed any more", user.name)
            return False
        return model

    async def _renewed(self, user: Any, state: Json, came_by: Identity, tokens: Json) -> tuple[Identity, Json]:
        """What the provider says now: one question, a second one only where its id_token does not tell enough."""
        claims: Json = {"iss": self.issuer, "sub": came_by.subject}
        told = False
        if tokens["refresh_token"]:
            answer = await self.provider.refresh(tokens["refresh_token"])
            tokens = oidc_tokens.rotated(tokens, answer)
            # Before anything else is done with them: the old ones are spent.
            self._latest.remember(user.name, tokens)
            if not await self._signed_in_again(user, tokens):
                await user.save_auth_state({**state, "daas": {**state["daas"], "tokens": tokens}})
            if "id_token" in answer and not self.endpoints:
                claims = await self._checked(answer, subject=came_by.subject, old_nonce=tokens["nonce"])
                told = self._tells_all(claims)
        if not told:
            userinfo = await self.provider.userinfo(tokens["access_token"])
            claims = userinfo if self.endpoints else oidc_claims.same_person(claims, userinfo)
        fresh = await self._identity(claims, tokens)
        # What she is called now was not compared with other people's names, as it is when she signs in.
        fresh = replace(fresh, name=came_by.name)
        if fresh.subject != came_by.subject:
            raise TokenRefused("", reason="sub", log_message="the provider answers about another person")
        if told:
            # Labels that only userinfo has stay as they were.
            mail = fresh.mail if "email" in claims else came_by.mail
            fresh = replace(fresh, mail=mail, display_name=fresh.display_name or came_by.display_name)
        if came_by.groups and not fresh.groups:
            self.log.warning("%s has lost all her groups: %s", user.name, ", ".join(came_by.groups))
        return fresh, {**tokens, "confirmed_at": int(time.time())}

    def _tells_all(self, claims: Json) -> bool:
        """Whether an id_token alone has what her rights and her account are made of."""
        rules = self.rules
        needed = {*rules.groups_path[:1], rules.name_claim, *rules.posix.values()} - {""}
        return needed <= {*claims, *claims.get("_claim_names", {})}

    async def _signed_in_again(self, user: Any, tokens: Json) -> bool:
        """Whether these are the tokens of a sign-in before, by whatever way: then they are not the ones that count."""
        now = oidc_tokens.tokens_of(await user.get_auth_state())
        return now is None or now["session"] != tokens["session"]

    async def end(self, user: Any) -> None:
        """End her tokens at the provider, where it can. Raises ProviderUnavailable."""
        stored = oidc_tokens.tokens_of(await user.get_auth_state())
        if stored is not None:
            tokens = self._latest.of(user.name, stored)
            await self.provider.revoke(tokens["refresh_token"] or tokens["access_token"])

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        """The site identity as its source has it now; None where it is gone. For starts."""
        return await self.sites.fresh_identity(identity, alone=alone)


def _own_browser(user: Any, handler: Any) -> bool:
    """Whether a request is her own with a cookie: only then can she be sent to sign in (handlers/base.py:424)."""
    by_token = getattr(handler, "_token_authenticated", False)
    return handler is not None and handler._jupyterhub_user is user and not by_token
