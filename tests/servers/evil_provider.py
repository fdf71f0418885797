"""An OpenID provider that lies: one switch for each claim that can be forged, faults, rotation with reuse detection.

It approves every sign-in at once, as ``person``. What it says when nothing is switched on is all true and is accepted:
that is what makes the refusal of a forgery mean something.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from tornado import web
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError

from daas_hub.clients.oidc import ACCESS_TOKEN, EXCHANGE
from tests.servers.forgeries import CLIENT, SECRET, Json, Token, b64, public, rsa_key
from tests.servers.ports import free_port


@dataclass
class Grant:
    """One sign-in: its current refresh token, and whether it is over."""

    sub: str
    nonce: str | None
    challenge: str = ""
    redirect_uri: str = ""
    refresh_token: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Exchanged:
    """One token for a service: whose, for which, until when."""

    value: str
    sub: str
    audience: str
    expires_at: float


@dataclass
class EvilProvider:
    """One provider. ``people``: subject → claims.

    ``faults``: endpoint (or ``exchange``, for that alone) → a status, or one of hang, drip (a byte now and then, for
    ever), huge, garbage, reset.
    ``tls``: with a certificate, for the host ``name``.
    """

    people: dict[str, Json] = field(default_factory=lambda: {"1": {"preferred_username": "ada", "groups": ["lab"]}})
    person: str = "1"
    forge: Callable[[Token], None] | None = None
    faults: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    grants: Counter[str] = field(default_factory=Counter)
    secrets_seen: set[str] = field(default_factory=set)
    rotate: bool = True
    gives_refresh_token: bool = True
    id_token_at_refresh: bool = True
    spare_key: str = "first"
    metadata_more: Json = field(default_factory=dict)
    userinfo_more: Json = field(default_factory=dict)
    extra_claims: Json = field(default_factory=dict)
    callback_more: Json = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    name: str = "127.0.0.1"
    address: str = "127.0.0.1"
    clock_ahead_s: float = 0.0
    exchanged_last_s: int = 300
    """For how long tokens of an exchange are good."""
    exchange_more: Json = field(default_factory=dict)
    """Of each answer to an exchange; ``None`` takes something away."""
    audiences: set[str] = field(default_factory=lambda: {"storage", "batch"})
    no_audience: str = "invalid_target"
    access_last_s: int = 300

    def __post_init__(self) -> None:
        self.port = free_port()
        self.issuer = f"{'https' if self.tls else 'http'}://{self.name}:{self.port}/realm"
        self.kid = "first"
        self.codes: dict[str, Grant] = {}
        self.refresh_tokens: dict[str, Grant] = {}
        self.access_tokens: dict[str, Grant] = {}
        self.reused = 0
        self.exchanged: list[Exchanged] = []
        self._release = asyncio.Event()
        self._server: HTTPServer | None = None

    async def start(self) -> EvilProvider:
        """Listen."""
        paths = ["authorize", "token", "userinfo", "keys", "revoke", "introspect", ".well-known/openid-configuration"]
        app = web.Application([(rf"/realm/({path})", _Handler, {"provider": self}) for path in [*paths, "groups"]])
        self._server = HTTPServer(app, ssl_options=self.tls)
        self._server.listen(self.port, self.address)
        return self

    async def stop(self) -> None:
        """Stop listening; whoever hangs is let go."""
        self._release.set()
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
            self._server = None

    def roll_key(self) -> None:
        """A new key; the old one is gone from the set."""
        self.kid = f"key-{secrets.token_hex(4)}"
        self.spare_key = self.kid

    # ------------------------------------------------------------ answers

    def metadata(self) -> Json:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "introspection_endpoint": f"{self.issuer}/introspect",
            **self.metadata_more,
        }

    def keys(self) -> Json:
        keys = [public(rsa_key(self.spare_key), self.kid)]
        keys += [public(rsa_key("encryption"), "encryption", use="enc"), public(rsa_key("weak", 1024), "weak")]
        return {"keys": [*keys, {"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"}]}

    def tokens(self, grant: Grant, *, with_id_token: bool = True) -> Json:
        access = secrets.token_urlsafe(16)
        self.access_tokens[access] = grant
        answer: Json = {"access_token": access, "token_type": "Bearer", "expires_in": self.access_last_s}
        if self.gives_refresh_token:
            if self.rotate or not grant.refresh_token:
                grant.refresh_token = secrets.token_urlsafe(16)
                self.refresh_tokens[grant.refresh_token] = grant
                answer["refresh_token"] = grant.refresh_token
            self.secrets_seen.add(grant.refresh_token)
        self.secrets_seen.add(access)
        if with_id_token:
            answer["id_token"] = self.id_token(grant, access)
        return answer

    def id_token(self, grant: Grant, access: str) -> str:
        now = int(time.time())
        claims = {
            **self.people[grant.sub],
            **self.extra_claims,
            "iss": self.issuer,
            "sub": grant.sub,
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": grant.nonce,
            "at_hash": b64(hashlib.sha256(access.encode()).digest()[:16]),
        }
        token = Token({"alg": "RS256", "typ": "JWT", "kid": self.kid}, claims, rsa_key(self.spare_key), access)
        if self.forge is not None:
            self.forge(token)
        return token.text()

    def logout_token(self, person: str, **change: Any) -> str:
        """What the provider posts when a session of a person ends; ``None`` takes a claim away."""
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": person,
            "iat": int(time.time()),
            "exp": int(time.time()) + 120,
            "jti": secrets.token_hex(8),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }
        said = {name: value for name, value in {**claims, **change}.items() if value is not None}
        header = {"alg": "RS256", "typ": "logout+jwt", "kid": self.kid}
        return Token(header, said, rsa_key(self.spare_key), "").text()

    def begin(self, query: dict[str, str]) -> tuple[str, str]:
        """What the authorization endpoint does: code and the address of the call-back."""
        code = secrets.token_urlsafe(16)
        self.secrets_seen.add(code)
        self.codes[code] = Grant(
            self.person, query.get("nonce"), query.get("code_challenge", ""), query.get("redirect_uri", "")
        )
        answer = {"code": code, "state": query["state"], **self.callback_more}
        return code, f"{query['redirect_uri']}?{urlencode(answer)}"

    def approve(self, url: str) -> str:
        """A person approves the address that she was sent to: where her browser goes next."""
        return self.begin({name: values[0] for name, values in parse_qs(urlsplit(url).query).items()})[1]

    def grant(self, form: dict[str, str], client: tuple[str, str]) -> tuple[int, Json]:
        if client != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "authorization_code":
            grant = self.codes.pop(form.get("code", ""), None)
            challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
            if grant is None or grant.challenge != challenge or grant.redirect_uri != form.get("redirect_uri"):
                return 400, {"error": "invalid_grant"}
            return 200, self.tokens(grant)
        if form["grant_type"] == EXCHANGE:
            return self.exchange(form)
        grant = self.refresh_tokens.get(form.get("refresh_token", ""))
        if grant is None or grant.ended:
            return 400, {"error": "invalid_grant"}
        if self.rotate and grant.refresh_token != form["refresh_token"]:
            # Reuse: somebody has stolen it, or its owner was careless. The whole sign-in ends.
            self.reused += 1
            grant.ended = True
            return 400, {"error": "invalid_grant", "error_description": "reused"}
        return 200, self.tokens(grant, with_id_token=self.id_token_at_refresh)

    def exchange(self, form: dict[str, str]) -> tuple[int, Json]:
        """RFC 8693, for an access token of ours; ``audiences`` are those that the client may ask for."""
        grant = self.access_tokens.get(form.get("subject_token", ""))
        if (form.get("subject_token_type"), form.get("requested_token_type")) != (ACCESS_TOKEN, ACCESS_TOKEN):
            return 400, {"error": "unsupported_token_type"}
        if grant is None or grant.ended:
            return 400, {"error": "invalid_token", "error_description": f"not good: {form.get('subject_token')}"}
        if form.get("audience") not in self.audiences:
            return 400, {"error": self.no_audience, "error_description": f"nothing for {form['subject_token']}"}
        value = secrets.token_urlsafe(32)
        self.secrets_seen.add(value)
        self.exchanged.append(Exchanged(value, grant.sub, form["audience"], time.time() + self.exchanged_last_s))
        answer = {"access_token": value, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}
        answer = {**answer, "expires_in": self.exchanged_last_s, **self.exchange_more}
        return 200, {name: said for name, said in answer.items() if said is not None}

    def good(self, value: str, at: float | None = None) -> bool:
        """Whether the service that it is for would take this token now, or would have taken it then."""
        when = time.time() if at is None else at
        return any(one.value == value and when < one.expires_at for one in self.exchanged)

    def end_all(self) -> None:
        """Every sign-in is over, as after an administrator's click."""
        for grant in self.access_tokens.values():
            grant.ended = True

    def userinfo(self, access: str) -> tuple[int, Json]:
        grant = self.access_tokens.get(access)
        if grant is None or grant.ended:
            return 401, {"error": "invalid_token"}
        return 200, {**self.people[grant.sub], "sub": grant.sub, **self.userinfo_more}


class _Handler(web.RequestHandler):
    def initialize(self, provider: EvilProvider) -> None:
        self.provider = provider

    async def get(self, path: str) -> None:
        if await self._fault(path):
            return
        p = self.provider
        if path == "authorize":
            self.redirect(p.begin({name: values[-1].decode() for name, values in self.request.arguments.items()})[1])
        elif path == "userinfo":
            status, body = p.userinfo(self.request.headers.get("Authorization", "").removeprefix("Bearer "))
            self.set_status(status)
            self.finish(body)
        else:
            self.finish(p.keys() if path == "keys" else p.metadata())

    async def post(self, path: str) -> None:
        if await self._fault(path):
            return
        p = self.provider
        form = {name: values[-1].decode() for name, values in self.request.body_arguments.items()}
        if path == "token":
            p.grants[form.get("grant_type", "")] += 1
            if form.get("grant_type") == EXCHANGE and await self._fault("exchange"):
                return
            status, body = p.grant(form, self._client())
            self.set_status(status)
            self.finish(body)
        elif path == "groups":
            self.finish({"value": ["overage-1", "overage-2"]})
        elif path == "introspect":
            grant = p.refresh_tokens.get(form["token"]) or p.access_tokens.get(form["token"])
            self.finish({"active": grant is not None and not grant.ended})
        else:
            grant = p.refresh_tokens.get(form["token"]) or p.access_tokens.get(form["token"])
            if grant is not None:
                grant.ended = True
            self.finish({})

    def _client(self) -> tuple[str, str]:
        words = self.request.headers.get("Authorization", "Basic Og==").removeprefix("Basic ")
        name, _, secret = base64.b64decode(words).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)

    async def _fault(self, path: str) -> bool:
        p = self.provider
        p.calls[path] += 1
        self.set_header("Date", format_datetime(datetime.now(UTC) + timedelta(seconds=p.clock_ahead_s), usegmt=True))
        fault = p.faults.get(path)
        if fault is None:
            return False
        if fault == "hang":
            await p._release.wait()
        elif fault == "drip":
            await self._drip()
            return True
        elif fault == "huge":
            self.finish(b" " * (2 << 20))
            return True
        elif fault == "reset":
            self.request.connection.stream.close()  # type: ignore[union-attr]
            return True
        elif isinstance(fault, int):
            self.set_status(fault)
        self.finish("<html>not what you asked for</html>")
        return True

    async def _drip(self) -> None:
        """Blanks before an answer, which would be good JSON one day."""
        while not self.provider._release.is_set() and not self.request.connection.stream.closed():  # type: ignore[union-attr]
            self.write(b" ")
            with suppress(StreamClosedError):
                await self.flush()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.provider._release.wait(), 0.05)
