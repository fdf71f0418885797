"""One OpenID provider: discovery, keys, tokens, facts about a person. Nothing here decides who somebody is.

Every answer is one of three: what was asked for, SessionRevoked (the provider says in so many words that the tokens
are good no more), ProviderUnavailable (everything else: no answer, half of one, one that is no answer).
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from daas_hub.core.errors import ConfigError, ProviderUnavailable, SessionRevoked, TokenRefused
from daas_hub.core.id_token import Keys, UnknownKey, header_of

MAX_BODY_BYTES = 1 << 20
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
NOBODY = "Your identity provider cannot be reached just now, so nobody can sign in with it. Try again in a minute."
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a word of RFC 8693
ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "revocation_endpoint",
    "end_session_endpoint",
)

Json = dict[str, Any]


@dataclass(frozen=True)
class ProviderSettings:
    """Where a provider is, and how long it may take. Times are in seconds."""

    issuer: str
    client_id: str
    client_secret: str = ""
    """Empty: a public client, which PKCE alone protects."""
    ca_file: str | None = None
    allow_plaintext: bool = False
    connect_within_s: float = 3.0
    answer_within_s: float = 6.0
    metadata_for_s: float = 3600.0
    """How long what was discovered, and the keys, are used before they are looked up again."""
    keys_every_s: float = 10.0
    """An unknown key has the set fetched anew, at most this often: anybody can invent key ids."""
    hold_down_s: float = 2.0
    """After a failure of discovery nobody is made to wait for the next one for so long."""
    metadata: Mapping[str, str] | None = None
    """Endpoints of a provider without discovery (GitHub). None: they are discovered."""


class Provider:
    """One provider and one client registered there."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._check_url("issuer", settings.issuer, ConfigError)
        self._http: AsyncHTTPClient | None = None
        self._tls = ssl.create_default_context(cafile=settings.ca_file)
        self._alone = asyncio.Lock()
        self._metadata: Json = dict(settings.metadata or {})
        self._metadata_at = float("-inf")
        self._keys: Keys = ()
        self._keys_at = self._keys_asked_at = float("-inf")
        self._failed: ProviderUnavailable | None = None
        self._failed_at = float("-inf")

    def close(self) -> None:
        """Drop the connections."""
        if self._http is not None:
            self._http.close()
            self._http = None

    # ------------------------------------------------------------ discovery

    async def metadata(self) -> Json:
        """What the provider says of itself, checked to be of this issuer. Raises ProviderUnavailable."""
        if self.settings.metadata is not None:
            return self._metadata
        if time.monotonic() - self._metadata_at < self.settings.metadata_for_s:
            return self._metadata
        async with self._alone:
            if time.monotonic() - self._metadata_at >= self.settings.metadata_for_s:
                await self._discover()
        return self._metadata

    async def _discover(self) -> None:
        if self._failed is not None and time.monotonic() - self._failed_at < self.settings.hold_down_s:
            raise self._failed
        try:
            self._metadata = await self._discovered()
        except ProviderUnavailable as error:
            if not self._metadata:
                self._failed, self._failed_at = error, time.monotonic()
                raise
            # What was true an hour ago is better than nothing; whoever is asked next will tell.
        self._failed, self._metadata_at = None, time.monotonic()

    async def _discovered(self) -> Json:
        url = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        found = self._json(await self._ask("GET", url), "discovery")
        if found.get("issuer") != self.settings.issuer:
            said = str(found.get("issuer"))[:200]
            raise unavailable("issuer", f"{url} is of the issuer {said!r}, not of {self.settings.issuer!r}")
        for name in ENDPOINTS:
            if name in found:
                self._check_url(name, found[name], lambda text: unavailable("endpoint", text))
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if name not in found:
                raise unavailable("discovery", f"{url} names no {name}")
        return found

    def _check_url(self, name: str, url: object, wrong: Any) -> None:
        """No address may be without TLS, carry a password or a fragment."""
        parts = urlsplit(url) if isinstance(url, str) else None
        schemes = {"https", "http"} if self.settings.allow_plaintext else {"https"}
        if parts is None or parts.scheme not in schemes or not parts.hostname or parts.username or parts.fragment:
            raise wrong(f"The identity provider's {name} {str(url)[:200]!r} must be a plain https:// address.")

    # ------------------------------------------------------------ keys

    async def keys_for(self, token: str) -> Keys:
        """The provider's keys, fetched anew where they lack this token's. Raises ProviderUnavailable, TokenRefused."""
        kid = header_of(token).get("kid")
        if not self._has(kid):
            async with self._alone:
                if not self._has(kid) and self._may_ask():
                    await self._fetch_keys()
        if time.monotonic() - self._keys_at >= self.settings.metadata_for_s or not self._keys:
            raise unavailable("keys", "its keys could not be had a moment ago")
        if not self._has(kid):
            raise UnknownKey("", reason="kid", log_message=f"an id_token is refused: no key {str(kid)[:80]!r}")
        return self._keys

    def _has(self, kid: object) -> bool:
        """Whether the set has this key; one that is an hour old must be looked at anew: keys are also taken away."""
        fresh = time.monotonic() - self._keys_at < self.settings.metadata_for_s
        return fresh and bool(self._keys) and (kid is None or any(key.get("kid") == kid for key in self._keys))

    async def forget_keys(self) -> None:
        """The next token has them fetched anew: the provider may have changed a key under its old id."""
        if self._may_ask():
            self._keys = ()

    def _may_ask(self) -> bool:
        return time.monotonic() - self._keys_asked_at >= self.settings.keys_every_s

    async def _fetch_keys(self) -> None:
        metadata = self._metadata or await self._discovered()
        # Counted before it is known how it ends, so that a provider which hangs is not asked by everybody in turn.
        self._keys_asked_at = time.monotonic()
        found = self._json(await self._ask("GET", metadata["jwks_uri"]), "keys").get("keys")
        if not isinstance(found, list) or not all(isinstance(key, dict) for key in found):
            raise unavailable("keys", "its key set is no list of keys")
        self._keys, self._keys_at = tuple(found), self._keys_asked_at

    async def ping(self) -> float | None:
        """Ask for everything that a sign-in needs; how many seconds this machine's clock is ahead of the provider's.

        None: it does not say. Raises ProviderUnavailable.
        """
        metadata = await self.metadata()
        if "jwks_uri" not in metadata:
            return None
        await self._fetch_keys()
        date = (await self._ask("GET", metadata["jwks_uri"])).headers.get("Date")
        try:
            return (datetime.now(UTC) - parsedate_to_datetime(str(date))).total_seconds()
        except (TypeError, ValueError):
            return None

    # ------------------------------------------------------------ tokens

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> Json:
        """Tokens for the code of a call-back. Raises TokenRefused for a code that is not good, ProviderUnavailable."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        try:
            return await self._tokens({**form, "code_verifier": verifier})
        except SessionRevoked as error:
            raise TokenRefused("", reason="code", log_message=f"a code was refused: {error.log_message}") from error

    async def refresh(self, refresh_token: str) -> Json:
        """Fresh tokens. Raises SessionRevoked where the provider says so, else ProviderUnavailable."""
        return await self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def _tokens(self, form: dict[str, str]) -> Json:
        metadata = await self.metadata()
        answer = await self._post(metadata["token_endpoint"], form)
        if answer.code in (200, 400) and (body := self._maybe_json(answer)) is not None:
            # GitHub says errors with status 200.
            if body.get("error") in ("invalid_grant", "bad_refresh_token", "bad_verification_code"):
                said = str(body.get("error_description", ""))[:200]
                raise SessionRevoked(
                    "Your sign-in has ended. Sign in again.", log_message=f"{body['error']} {said!r}".strip()
                )
            if answer.code == 200 and isinstance(body.get("access_token"), str) and "error" not in body:
                if str(body.get("token_type", "bearer")).lower() != "bearer":
                    raise unavailable("token_type", f"a token of the type {str(body['token_type'])[:80]!r}")
                return body
        raise unavailable("token_endpoint", self._said(answer))

    async def exchange_token(self, access_token: str, asked: Mapping[str, str]) -> Json:
        """Another token for whoever has this one, for one service (RFC 8693).

        Raises SessionRevoked where this one is good no more, TokenRefused (``reason``: the provider's word) where the
        provider gives none for other reasons, ProviderUnavailable.
        """
        form = {**asked, "grant_type": EXCHANGE, "subject_token": access_token}
        form |= {"subject_token_type": ACCESS_TOKEN, "requested_token_type": ACCESS_TOKEN}
        answer = await self._post((await self.metadata())["token_endpoint"], form)
        body = self._maybe_json(answer)
        if answer.code in (400, 401, 403) and body is not None and isinstance(body.get("error"), str):
            about = str(body.get("error_description", ""))
            # Some name the token that they refuse.
            about = "" if access_token[:16] in about else about[:200]
            said = f"a token exchange is refused: {self._said(answer)} {about!r}"
            # RFC 8693 §2.2.2 has invalid_request for a subject token that is not good; providers have others as well.
            if body["error"] in ("invalid_request", "invalid_token", "invalid_grant"):
                raise SessionRevoked("Your sign-in has ended. Sign in again.", log_message=said)
            word = body["error"] if body["error"].isascii() and body["error"].isprintable() else "error"
            raise TokenRefused("", reason=word[:80], log_message=said)
        if answer.code != 200 or body is None or not isinstance(body.get("access_token"), str):
            raise unavailable("token_exchange", self._said(answer))
        kind, use = body.get("issued_token_type", ACCESS_TOKEN), str(body.get("token_type", "bearer")).lower()
        if kind != ACCESS_TOKEN or use != "bearer":
            raise unavailable("token_type", f"a token of the type {str(kind)[:80]!r}, for {use[:80]!r}")
        return body

    async def userinfo(self, access_token: str) -> Json:
        """What the provider says of whoever has this token. Raises SessionRevoked where it is good no more."""
        metadata = await self.metadata()
        if "userinfo_endpoint" not in metadata:
            raise unavailable("userinfo", "it has no userinfo_endpoint")
        answer = await self._ask("GET", metadata["userinfo_endpoint"], headers=bearer(access_token))
        if answer.code == 401:
            raise SessionRevoked("Your sign-in has ended. Sign in again.", log_message=self._said(answer))
        return self._json(answer, "userinfo")

    async def groups_from(self, url: str, access_token: str) -> list[str]:
        """Groups that did not fit into a token (Microsoft Graph's getMemberObjects). Raises ProviderUnavailable."""
        headers = {**bearer(access_token), "Content-Type": "application/json"}
        answer = self._json(await self._ask("POST", url, b'{"securityEnabledOnly": false}', headers), "groups")
        found = answer.get("value")
        if not isinstance(found, list) or "@odata.nextLink" in answer:
            raise unavailable("groups", "its list of groups is none, or is not whole")
        return found

    async def revoke(self, token: str) -> bool:
        """End a token (RFC 7009); False where the provider cannot. Raises ProviderUnavailable."""
        url = (await self.metadata()).get("revocation_endpoint")
        if url is None:
            return False
        answer = await self._post(url, {"token": token})
        if answer.code != 200:
            raise unavailable("revocation", self._said(answer))
        return True

    # ------------------------------------------------------------ HTTP

    async def _post(self, url: str, form: dict[str, str]) -> HTTPResponse:
        """A form, with who we are: in the header (RFC 6749 §2.3.1), in the form where the provider has only that."""
        client_id, secret = self.settings.client_id, self.settings.client_secret
        headers = dict(FORM)
        methods = self._metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and "client_secret_basic" in methods:
            both = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(both).decode()
        else:
            form = {**form, "client_id": client_id, **({"client_secret": secret} if secret else {})}
        return await self._ask("POST", url, urlencode(form).encode(), headers)

    async def _ask(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        request = HTTPRequest(
            url,
            method=method,
            body=body,
            headers={"Accept": "application/json", **(headers or {})},
            connect_timeout=self.settings.connect_within_s,
            request_timeout=self.settings.answer_within_s,
            # Where a redirect leads, secrets would follow.
            follow_redirects=False,
            decompress_response=False,
            ssl_options=self._tls,
        )
        if self._http is None:
            # Here and not before: it belongs to the loop that runs.
            self._http = AsyncHTTPClient(force_instance=True, max_clients=50, max_body_size=MAX_BODY_BYTES)
        try:
            return await self._http.fetch(request, raise_error=False)
        except Exception as error:
            # Whatever goes wrong on the way (DNS, TLS, HTTP) is the same for our callers.
            raise unavailable("connection", f"{urlsplit(url).netloc}: {type(error).__name__}: {error}") from error

    def _json(self, answer: HTTPResponse, what: str) -> Json:
        body = self._maybe_json(answer)
        if answer.code != 200 or body is None:
            raise unavailable(what, self._said(answer))
        return body

    def _maybe_json(self, answer: HTTPResponse) -> Json | None:
        try:
            body = json.loads(answer.body or b"")
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    def _said(self, answer: HTTPResponse) -> str:
        """For the log: the status and the error's name, never a body (it may hold tokens)."""
        body = self._maybe_json(answer) or {}
        place = urlsplit(str(answer.effective_url))
        cause = f" ({answer.error})" if answer.code == 599 else ""
        return f"{place.netloc}{place.path} answers {answer.code} {str(body.get('error', ''))[:80]}".strip() + cause


def bearer(token: str) -> dict[str, str]:
    """The header that shows an access token."""
    if not token.isascii() or not token.isprintable():
        raise unavailable("token", "an access token that cannot be sent")
    return {"Authorization": f"Bearer {token}"}


def unavailable(reason: str, why: str) -> ProviderUnavailable:
    """The one refusal for everything that says nothing about a person."""
    return ProviderUnavailable(
        NOBODY, reason=f"provider_{reason}", log_message=f"the identity provider: {reason}: {why}", retry_after_s=30
    )
