"""Pages for people whom a provider knows and this site does not yet: link an account, or ask for access.

No hub user exists here. What a page does is decided by the signed cookie of whoever came from her provider, never by
what a form says about her.
"""

from __future__ import annotations

import hmac
from dataclasses import asdict
from http.client import responses
from typing import Any

from jupyterhub.handlers import BaseHandler, LogoutHandler
from jupyterhub.utils import url_path_join
from tornado import web

from daas_hub.auth.common import identity_in
from daas_hub.auth.link_cookie import Waiting
from daas_hub.auth.oidc_handlers import OIDCLogoutHandler, begin
from daas_hub.core.errors import DaasError
from daas_hub.core.linking import MAX_TEXT_CHARS, Proof, label
from daas_hub.db.invites import NO_GOOD

STALE = (
    "This page is older than ten minutes, was used already, or belongs to another browser. Nothing was changed: sign "
    "in again."
)
WRONG = "Invalid username or password"
FOREIGN = "This form is not from this page, or it is too old. Reload the page and try again."


class OurPage(BaseHandler):
    """The base of pages without a hub user."""

    def check_xsrf_cookie(self) -> None:
        """For every POST, whatever the browser says about it: JupyterHub lets some kinds of requests through."""
        # tornado asks before it is known who came; JupyterHub asks again then.
        if self.request.method in ("GET", "HEAD") or not hasattr(self, "_jupyterhub_user"):
            return
        sent = self.get_argument("_xsrf", "") or self.request.headers.get("X-Xsrftoken", "")
        other = self.request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
        if other or not sent or not hmac.compare_digest(sent.encode(), self.xsrf_token):
            raise web.HTTPError(403, FOREIGN)

    def set_default_headers(self) -> None:
        """Nobody frames them, and nothing of them is kept."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")

    def write_error(self, status_code: int, **more: Any) -> None:
        """With a short heading: JupyterHub's would be the whole text once more."""
        error = more.get("exc_info", (None, None))[1]
        if isinstance(error, web.HTTPError):
            error.reason = error.reason or responses.get(status_code)
        super().write_error(status_code, **more)

    def one(self, name: str, longest: int = 4096) -> str:
        """A field of the form; two of the same name are none."""
        values = self.get_body_arguments(name, strip=False)
        return values[0][:longest] if len(values) == 1 else ""


class LinkHandler(OurPage):
    """``GET``: who came, and what she can do. ``POST``: prove the account; she is then sent to her provider again."""

    wrong = WRONG

    def waiting(self) -> Waiting:
        """Who came in this browser. Raises HTTPError 400."""
        who: Waiting | None = self.authenticator.waiting.read(self)
        if who is None or who.way not in self.authenticator.providers:
            login = url_path_join(self.hub.base_url, "login")
            self.extra_error_html = f'<a class="btn btn-jupyter" href="{login}">Sign in again</a>'
            raise web.HTTPError(400, STALE)
        return who

    async def get(self) -> None:
        """The page."""
        await self.draw(self.waiting())

    async def draw(self, who: Waiting, *, status: int = 200, problem: str = "", username: str = "") -> None:
        """The page with what went wrong."""
        asked = await self.authenticator.linking.asked(who.identity)
        self.set_status(status)
        html = await self.render_template(
            "daas/link.html",
            who=label(who.identity),
            provider=self.authenticator.providers[who.way].label,
            directories=list(self.authenticator.directory_ways.values()),
            asked=asked,
            problem=problem,
            username=username,
            xsrf=self.xsrf_token.decode("ascii"),
            longest=MAX_TEXT_CHARS,
        )
        self.finish(html)

    async def post(self) -> None:
        """Prove the account by its password: one try, counted as a sign-in's."""
        who = self.waiting()
        data = {"username": self.one("username").strip(), "password": self.one("password"), "way": self.one("way")}
        try:
            proof = await self.prove(who, data)
        except web.HTTPError as error:
            await self.draw(who, status=error.status_code, problem=error.log_message or "", username=data["username"])
            return
        except DaasError as error:
            self.log.warning("An account is not linked: %s", error.log_message)
            await self.draw(who, status=error.status, problem=error.message, username=data["username"])
            return
        if proof is None:
            await self.draw(who, status=403, problem=self.wrong, username=data["username"])
            return
        if not self.authenticator.waiting.use_up(self, who):
            raise web.HTTPError(400, STALE)
        # Linked is only when the same browser comes back from the provider as the same person: whoever was given
        # somebody else's cookie is another one there.
        way = self.authenticator.providers[who.way].authenticator
        await begin(self, way, who.next_url, proof=asdict(proof))

    async def prove(self, who: Waiting, data: dict[str, str]) -> Proof | None:
        """None for a wrong password. Raises HTTPError and DaasError for an account that must not be used here."""
        model = await self.authenticator.by_password(self, data)
        identity = identity_in(model["auth_state"]) if model is not None else None
        if model is None or identity is None:
            return None
        await self.authenticator.require_open(self, identity, model)
        await self.authenticator.linking.record(identity)
        return Proof((who.issuer, who.subject), (identity.issuer, identity.subject), "password")


class CodeHandler(LinkHandler):
    """``POST``: an administrator's invitation instead of a password; then to the provider again, as with one."""

    async def get(self) -> None:
        """There is one page for all."""
        self.redirect(url_path_join(self.hub.base_url, "daas/link"))

    wrong = NO_GOOD

    async def prove(self, who: Waiting, data: dict[str, str]) -> Proof | None:  # noqa: ARG002
        """None for a code that is no good; guessed ones are counted, for her identity and her address."""
        async with self.authenticator.attempt(self) as attempt:
            attempt.admit(f"invitation {who.issuer} {who.subject}")
            proof: Proof | None = await self.authenticator.linking.invited(who.identity, self.one("code", 200))
            attempt.failed = proof is None
        return proof


class AskHandler(LinkHandler):
    """``POST``: a request for administrators."""

    async def get(self) -> None:
        """There is one page for both."""
        self.redirect(url_path_join(self.hub.base_url, "daas/link"))

    async def post(self) -> None:
        """Kept once for each identity until it is decided."""
        who = self.waiting()
        text = " ".join(self.one("text", MAX_TEXT_CHARS).split())
        try:
            await self.authenticator.linking.ask(who.identity, who.way, text)
        except DaasError as error:
            await self.draw(who, status=error.status, problem=error.message)
            return
        self.log.warning("%s asks for access", label(who.identity))
        self.redirect(url_path_join(self.hub.base_url, "daas/link"), status=303)


class LogoutOfWayHandler(OIDCLogoutHandler):
    """Out of the hub, and of the provider where she came by one."""

    def initialize(self, way: Any = None) -> None:
        """The way is known once it is known who goes."""
        self.way = way

    async def handle_logout(self) -> None:
        """As the provider's own page does."""
        user = self.current_user
        self.way = self.authenticator._way(await user.get_auth_state()) if user is not None else None
        if self.way not in [way.authenticator for way in self.authenticator.providers.values()]:
            self.way = None
        if self.way is not None:
            await super().handle_logout()

    async def render_logout_page(self) -> None:
        """Of the provider, or the hub's own."""
        if self.way is not None:
            await super().render_logout_page()
        else:
            await LogoutHandler.render_logout_page(self)
