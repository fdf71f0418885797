"""The three pages of a sign-in by OpenID Connect: away to the provider, back from it, and out."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.handlers import LogoutHandler
from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler
from tornado import escape, web
from tornado.httputil import url_concat

from daas_hub.auth.common import try_again
from daas_hub.auth.linked import GONE, AccountGone, NotLinked, Unlinked
from daas_hub.auth.oidc_states import Pending
from daas_hub.core.errors import DirectoryUnavailable, LinkRefused, TokenRefused
from daas_hub.core.redirects import local_path

MAX_CODE_CHARS = 8192
"""Entra's codes have some 1,500."""
STALE = (
    "This sign-in was begun in another browser, is older than ten minutes, or was already finished. Nothing is wrong "
    "with your account: sign in again."
)
NOT_IN = "You are not signed in"
DECLINED = "The identity provider did not let you in, or you stopped there. Sign in again, or ask its administrator."
PROVIDER_BUSY = "Your identity provider cannot sign anybody in just now. Try again in a minute."
PROVIDER_SAYS_NO = "The identity provider refuses this service. Its administrator finds the reason in the hub's log."


async def begin(handler: Any, way: Any, next_url: str, **more: Any) -> None:
    """Send the browser to the provider. ``more``: of the pending sign-in. Raises HTTPError 503."""
    try:
        endpoint = (await way.provider.metadata())["authorization_endpoint"]
    except DirectoryUnavailable as error:
        handler.log.error("Nobody can sign in: %s", error.log_message)
        raise try_again(error) from error
    pending = Pending(next_url=next_url, redirect_uri=way.get_callback_url(handler), **more)
    way.states.remember(handler, pending)
    handler.redirect(url_concat(endpoint, way.authorize_params(pending)))


class OIDCLoginHandler(OAuthLoginHandler):
    """Begins a sign-in; each tab has its own."""

    def initialize(self, way: Any = None) -> None:
        """``way``: the authenticator that this page belongs to, where the hub's own holds several."""
        self.way = way or self.authenticator

    async def get(self) -> None:
        """Off to the provider, with state, nonce and PKCE's challenge."""
        next_url = local_path(self._validate_next_url(self.get_argument("next", "")))
        await begin(self, self.way, next_url)


class OIDCCallbackHandler(OAuthCallbackHandler):
    """Ends a sign-in: everything about it is judged before the code is used."""

    def initialize(self, way: Any = None) -> None:
        """As above."""
        self.way = way or self.authenticator

    async def get(self) -> None:
        """In, or a page that says why not and leads to another try."""
        try:
            await self._back()
        except web.HTTPError as error:
            error.reason = error.reason or NOT_IN
            login = escape.xhtml_escape(url_path_join(self.hub.base_url, "login"))
            # What JupyterHub's error page shows below the text.
            self.extra_error_html = f'<a class="btn btn-jupyter" href="{login}">Sign in again</a>'
            raise

    async def _back(self) -> None:
        pending = self.way.states.take(self, self._one("state", MAX_CODE_CHARS))
        if pending is None:
            raise web.HTTPError(400, STALE)
        await self._check_issuer()
        self._check_error()
        code = self._one("code", MAX_CODE_CHARS)
        try:
            user = await self.login_user({"way": self.way.way_name, "code": code, "pending": pending})
        except NotLinked as who:
            self.log.warning("%s", who)
            await self.way.sites.not_linked(self, who, pending.next_url)
            return
        except Unlinked as done:
            self.log.warning("%s", done)
            await self.way.sites.unlinked(self, done)
            return
        except AccountGone as error:
            self.log.warning("A sign-in is refused: %s", error)
            raise web.HTTPError(403, GONE) from error
        except LinkRefused as error:
            self.log.warning("A link is refused: %s", error.log_message)
            raise web.HTTPError(error.status, error.message) from error
        except TokenRefused as error:
            self.log.warning("A sign-in is refused: %s", error.log_message)
            raise web.HTTPError(error.status, error.message) from error
        except DirectoryUnavailable as error:
            self.log.error("Nobody can sign in: %s", error.log_message)
            raise try_again(error) from error
        if user is None:
            raise web.HTTPError(403, DECLINED)
        self._jupyterhub_user = user
        self.redirect(pending.next_url or self.get_next_url(user))

    def _request_summary(self) -> str:
        """Without the query: tornado logs each refusal with it, and codes and states are secrets."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    def get_next_url(self, user: Any = None, default: Any = None) -> str:
        """The hub's own default; what stands in the call-back's address was never part of the sign-in."""
        if "next" in self.request.arguments:
            raise web.HTTPError(400, "A call-back has no next.")
        url: str = super(OAuthCallbackHandler, self).get_next_url(user, default)
        return url

    def _one(self, name: str, longest: int) -> str:
        """Exactly one value: with two, one check could see one and the next the other."""
        values = self.get_arguments(name)
        if len(values) != 1 or not 0 < len(values[0]) <= longest:
            raise web.HTTPError(400, f"A call-back has exactly one {name}. Sign in again.")
        return str(values[0])

    async def _check_issuer(self) -> None:
        """The provider that answers must be the one that was asked (RFC 9207: a mix-up of several)."""
        said = self.get_arguments("iss")
        if said and said != [self.way.provider.settings.issuer]:
            self.log.warning("A call-back is refused: it is of the issuer %.200r", said)
            raise web.HTTPError(400, STALE)
        if not said:
            try:
                metadata = await self.way.provider.metadata()
            except DirectoryUnavailable as error:
                raise try_again(error) from error
            if metadata.get("authorization_response_iss_parameter_supported") is True:
                self.log.warning("A call-back is refused: it names no issuer")
                raise web.HTTPError(400, STALE)

    def _check_error(self) -> None:
        """Only the log has the provider's own words: anybody can write them into an address."""
        errors = self.get_arguments("error")
        if not errors:
            return
        self.log.warning("The provider answers %.80r: %.200r", errors[0], self.get_argument("error_description", ""))
        if errors[0] in ("access_denied", "login_required", "consent_required", "interaction_required"):
            raise web.HTTPError(403, DECLINED)
        if errors[0] in ("temporarily_unavailable", "server_error"):
            raise web.HTTPError(503, PROVIDER_BUSY)
        raise web.HTTPError(400, PROVIDER_SAYS_NO)


class OIDCLogoutHandler(LogoutHandler):
    """Out of the hub, and of the provider where it can be asked to (RP-initiated logout)."""

    def initialize(self, way: Any = None) -> None:
        """As above."""
        self.way = way or self.authenticator

    async def handle_logout(self) -> None:
        """The tokens end with the session; a provider that is away keeps nobody in."""
        user = self.current_user
        if user is not None:
            self.way.own_logouts.first(user.name)
            try:
                await asyncio.wait_for(self.way.end(user), self.way.login_within_s)
            except (DirectoryUnavailable, TimeoutError) as error:
                self.log.warning("The tokens of %s were not ended at the provider: %s", user.name, error)

    async def render_logout_page(self) -> None:
        """On to the provider's own page, which asks before it ends the session there.

        No id_token goes along: addresses are logged on the way.
        """
        url = await self._provider_page()
        if url:
            self.redirect(url)
        else:
            await super().render_logout_page()

    async def _provider_page(self) -> str:
        if not self.way.logout_at_provider:
            return ""
        try:
            endpoint = (await self.way.provider.metadata()).get("end_session_endpoint")
        except DirectoryUnavailable:
            return ""
        if not endpoint:
            return ""
        callback = urlsplit(self.way.get_callback_url(self))
        back = f"{callback.scheme}://{callback.netloc}" + url_path_join(self.hub.base_url, "login")
        return url_concat(endpoint, {"client_id": self.way.client_id, "post_logout_redirect_uri": back})
