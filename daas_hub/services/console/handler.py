"""What every page and every REST path of the console does first: who asks, may she, and is it really she.

Each handler names the scope that each of its methods needs; a method without a name is closed. Authentication
never blocks the loop, and XSRF is checked for every request that changes something and carries no token, whatever
``Sec-Fetch-Mode`` says.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError, RequestHandler

from daas_hub.core.access import READ_ONLY
from daas_hub.core.errors import DaasError, InvalidOptions, NotAllowed

from .access import ANYBODY, Person, right
from .models import Problem
from .store import Store

HUB_WITHIN_S = 10.0
"""How long the hub may take to say who a token is, before the person is asked to try again."""
MAX_BODY_BYTES = 64 * 1024
"""No form and no JSON of ours comes near it."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def security_headers(hub_host: str) -> dict[str, str]:
    """Headers of every answer. ``hub_host`` is the hub's origin where services have a domain of their own, else empty.

    No inline script or style is allowed, so a text that slipped through as HTML could still not run.
    """
    source = "'self'"
    if hub_host:
        parts = urlsplit(hub_host)
        source += f" {parts.scheme}://{parts.netloc}"
    policy = (
        f"default-src 'none'; script-src {source}; style-src {source}; font-src {source}; "
        f"img-src {source} data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class ConsoleHandler(HubOAuthenticated, RequestHandler):
    """The base of all but health, metrics and the OAuth call-back."""

    needs: ClassVar[Mapping[str, str]] = {}
    """HTTP method → scope; ANYBODY for every signed-in person. HEAD needs what GET needs."""

    for_groups: ClassVar[frozenset[str]] = frozenset()
    """Methods whose scope may be held for one group only: the first part of the path, or, where there is none, any."""

    away = ""
    """What the hub says of her directory just now."""

    _person: Person | None = None

    @property
    def person(self) -> Person:
        """Who asks; only after `prepare`."""
        if self._person is None:
            raise HTTPError(403)
        return self._person

    def get_current_user(self) -> dict[str, Any] | None:
        """For JupyterHub's own helpers; `prepare` has asked the hub already, without blocking."""
        model: dict[str, Any] | None = getattr(self, "_cached_hub_user", None)
        return model

    def set_default_headers(self) -> None:
        for name, value in self.settings["security_headers"].items():
            self.set_header(name, value)

    async def prepare(self) -> None:
        """Authenticate, then XSRF, then the scope. The order matters: only a token frees a request from XSRF."""
        method = self.request.method or ""
        if method not in SAFE and self._foreign():
            raise HTTPError(403, "This request came from another site.")
        model = await self._identify()
        if method not in SAFE and not getattr(self, "_token_authenticated", False):
            self.check_xsrf_cookie()
        if model is None:
            self.unauthenticated()
            return
        person = Person.from_model(model)
        if not self.hub_auth.check_scopes(self.hub_auth.access_scopes, model):
            raise HTTPError(403, "You may not use this page.")
        needed = self.needs.get("GET" if method == "HEAD" else method)
        if needed is None:
            raise HTTPError(405)
        if needed != ANYBODY and not self._may(person, needed):
            raise NotAllowed(
                f"This is open only to those who may {right(needed)}. Ask an administrator.",
                log_message=f"{person.kind} {person.name} lacks the scope {needed}",
            )
        self._person = person
        await self._look_above(person)

    async def _look_above(self, person: Person) -> None:
        """What stands above her pages; who may only read them is refused the rest. Tokens stay what they are."""
        if person.kind != "user" or getattr(self, "_token_authenticated", False):
            return
        self.away, read_only = await self.store.banners.of(person.name)
        if read_only and self.request.method not in SAFE:
            self._person = None
            raise HTTPError(503, READ_ONLY)

    @property
    def store(self) -> Store:
        """The ledger, off the loop."""
        store: Store = self.settings["store"]
        return store

    def _may(self, person: Person, scope: str) -> bool:
        if self.request.method not in self.for_groups:
            return person.may(scope)
        return person.may(scope, self.path_args[0]) if self.path_args else person.may_somewhere(scope)

    async def _identify(self) -> dict[str, Any] | None:
        try:
            model: dict[str, Any] | None = await asyncio.wait_for(
                self.hub_auth.get_user(self, sync=False), HUB_WITHIN_S
            )
        except TimeoutError as error:
            raise HTTPError(503, "The hub does not answer. Try again.") from error
        return model

    def check_xsrf_cookie(self) -> None:
        """For what changes something, the token is asked for whatever the browser says about the request.

        JupyterHub's own check leaves out whatever is sent with ``Sec-Fetch-Mode: websocket``.
        """
        if self.request.method in SAFE:
            super().check_xsrf_cookie()
            return
        sent = self.get_argument("_xsrf", "") or self.request.headers.get("X-Xsrftoken", "")
        if not sent or not hmac.compare_digest(sent.encode(), self.xsrf_token):
            raise HTTPError(403, "This form is not from this page, or it is too old. Reload the page and try again.")

    def _foreign(self) -> bool:
        """True where the browser itself says that another site made this request with our cookies."""
        site = self.request.headers.get("Sec-Fetch-Site", "")
        return site in {"cross-site", "same-site"} and "Authorization" not in self.request.headers

    def unauthenticated(self) -> None:
        """What somebody without a valid token or cookie gets."""
        raise HTTPError(403, "Sign in, or send a token of the hub.")

    # ------------------------------------------------------------ errors

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = "Something went wrong here. The log has the details."
        reason = "error"
        if isinstance(error, DaasError):
            status_code, message, reason = error.status, error.message, error.reason
            if error.retry_after_s is not None or status_code == 503:
                self.set_header("Retry-After", str(max(1, round(error.retry_after_s or 1))))
        elif isinstance(error, HTTPError):
            message = error.log_message or TEXTS.get(status_code, "This cannot be done.")
            reason = REASONS.get(status_code, "error")
        field = error.field if isinstance(error, InvalidOptions) else None
        self.set_status(status_code)
        self.answer_error(Problem(status=status_code, reason=reason, message=message, field=field))

    def answer_error(self, problem: Problem) -> None:
        """Write the answer; pages and REST differ."""
        raise NotImplementedError

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """One line for a refusal, a traceback only for what nobody foresaw."""
        if isinstance(value, DaasError):
            self.settings["log"].warning("%s %s: %s", self.request.method, self.request.path, value.log_message)
        else:
            super().log_exception(typ, value, tb)


TEXTS = {
    403: "You may not do this.",
    404: "There is nothing here.",
    405: "This cannot be done here.",
}
REASONS = {400: "invalid", 403: "not_allowed", 404: "not_found", 405: "method", 503: "unavailable"}


class CallbackHandler(HubOAuthCallbackHandler):
    """The end of the OAuth dance, with our headers. Where to go next is kept on our side, never in the URL."""

    def set_default_headers(self) -> None:
        for name, value in self.settings["security_headers"].items():
            self.set_header(name, value)


def hub_auth(log: Any) -> HubOAuth:
    """The one HubOAuth of the process. A right that was taken away is gone after 30 s (design.md §4.8)."""
    return HubOAuth.instance(log=log, cache_max_age=30)
