"""Whether an id_token is the provider's, for us, now, and for this very sign-in (OpenID Connect Core §3.1.3.7). Pure.

Keys come from the provider's own key set only: a key, or an address of one, that a token brings along is never used.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jwk, jws
from joserfc.errors import JoseError

from .errors import TokenRefused

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures by a private key. Neither "none" nor HS*, where a public key would do as the secret, can be allowed."""
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
MIN_RSA_BITS = 2048
MAX_TOKEN_CHARS = 256 * 1024
"""500 groups are some 30 KiB; what is longer is no id_token."""
ID_TOKEN_TYPES = frozenset({"jwt", "id_token+jwt"})
"""``typ`` of a header; access tokens (RFC 9068) and logout tokens have others."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"

Claims = Mapping[str, Any]
Keys = Sequence[Mapping[str, Any]]
"""The ``keys`` of a JWKS (RFC 7517), as they came."""


@dataclass(frozen=True)
class Expected:
    """What a token must say. Times are in seconds."""

    issuer: str
    client_id: str
    nonce: str | None = None
    """That of the sign-in. None after it: then a nonce may be missing, and ``old_nonce`` must be what is there."""
    old_nonce: str | None = None
    subject: str | None = None
    """Whose token it must be, where that is known (a refresh)."""
    access_token: str | None = None
    """What came with it; ``at_hash`` must be its hash."""
    signed_in_since: float | None = None
    """She must have proved who she is after this time (seconds since 1970): ``auth_time`` says when she did."""
    algorithms: frozenset[str] = ALGORITHMS
    leeway_s: float = 60.0
    """How far the two clocks may be apart."""
    max_age_s: float = 600.0
    """How long ago it may have been issued: it comes straight from the provider, so longer is a replay."""


class UnknownKey(TokenRefused):
    """Raised for a token of a key that is not in the set: the provider may have changed its keys since."""


def header_of(token: str) -> dict[str, Any]:
    """The header, still unproved. Raises TokenRefused for what is no signed token."""
    if len(token) > MAX_TOKEN_CHARS:
        raise _refused("size", f"{len(token)} characters")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise _refused("form", f"{len(parts)} parts; a signed token has 3")
    try:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError) as error:
        raise _refused("form", "its header is no JSON") from error
    if not isinstance(header, dict):
        raise _refused("form", "its header is no object")
    return header


def verified(token: str, keys: Keys, algorithms: frozenset[str] = ALGORITHMS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token that one of ``keys`` signed. Raises UnknownKey, TokenRefused."""
    header = header_of(token)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms & ALGORITHMS:
        raise _refused("alg", f"{algorithm!r}; allowed are {', '.join(sorted(algorithms & ALGORITHMS))}")
    if "crit" in header or "b64" in header:
        raise _refused("crit", "it asks for extensions")
    key = _key(header, algorithm, keys)
    try:
        registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        payload = jws.deserialize_compact(token, key, registry=registry).payload
        claims = json.loads(payload)
    except (JoseError, ValueError, RecursionError) as error:
        raise _refused("signature", type(error).__name__) from error
    if not isinstance(claims, dict):
        raise _refused("form", "its claims are no object")
    return header, claims


def _key(header: Mapping[str, Any], algorithm: str, keys: Keys) -> Any:
    """The one key that may have signed this: by its id, else the only one that fits."""
    kid, kind = header.get("kid"), KEY_TYPES[algorithm[:2]]
    if kid is not None and not isinstance(kid, str):
        raise _refused("kid", "no text")
    named = [key for key in keys if kid is None or key.get("kid") == kid]
    fitting = [
        key
        for key in named
        if key.get("kty") == kind
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and "verify" in key.get("key_ops", ["verify"])
    ]
    if not named:
        raise UnknownKey("", reason="kid", log_message=f"an id_token is refused: no key {str(kid)[:80]!r}")
    if len(fitting) != 1:
        raise _refused("key", f"{len(fitting)} keys fit {algorithm} and {str(kid)[:80]!r}; one must")
    if kind == "RSA" and (bits := _modulus_bits(fitting[0])) < MIN_RSA_BITS:
        raise _refused("key", f"{bits} bits; RSA needs {MIN_RSA_BITS}")
    try:
        # Only what is public: a private part in a key set would be somebody's mistake, and is of no use here.
        public = {name: value for name, value in fitting[0].items() if name in {"kty", "n", "e", "crv", "x", "y"}}
        return jwk.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _refused("key", f"unusable: {type(error).__name__}") from error


def _modulus_bits(key: Mapping[str, Any]) -> int:
    n = str(key.get("n"))
    try:
        return int.from_bytes(base64.urlsafe_b64decode(n + "=" * (-len(n) % 4)), "big").bit_length()
    except ValueError:
        return 0


def check(token: str, keys: Keys, expected: Expected, now: datetime) -> dict[str, Any]:
    """The claims of an id_token that is all it must be. Raises UnknownKey, TokenRefused."""
    header, claims = verified(token, keys, expected.algorithms)
    if str(header.get("typ", "JWT")).lower() not in ID_TOKEN_TYPES or "events" in claims:
        raise _refused("typ", f"{str(header.get('typ'))[:80]!r}: a token of another purpose")
    _check_parties(claims, expected)
    _check_times(claims, expected, now.timestamp())
    if expected.nonce is not None and not _same(claims.get("nonce"), expected.nonce):
        raise _refused("nonce", "another sign-in's, or none")
    if expected.nonce is None and "nonce" in claims and claims["nonce"] != expected.old_nonce:
        raise _refused("nonce", "another sign-in's")
    if expected.access_token is not None and "at_hash" in claims:
        wanted = at_hash(header["alg"], expected.access_token)
        if not _same(claims["at_hash"], wanted):
            raise _refused("at_hash", "another access token's")
    return claims


def _check_parties(claims: Claims, expected: Expected) -> None:
    if claims.get("iss") != expected.issuer:
        raise _refused("iss", f"{str(claims.get('iss'))[:200]!r}; expected {expected.issuer!r}")
    check_subject(claims.get("sub"))
    if expected.subject is not None and claims["sub"] != expected.subject:
        raise _refused("sub", "another person's")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
        raise _refused("aud", "no list of names")
    if expected.client_id not in audiences:
        raise _refused("aud", f"for {str(audiences)[:200]}, not for {expected.client_id!r}")
    # Others may hold a token with several audiences: then it must say that it was made for us.
    if ("azp" in claims or len(audiences) > 1) and claims.get("azp") != expected.client_id:
        raise _refused("azp", f"{str(claims.get('azp'))[:200]!r}; expected {expected.client_id!r}")


def _check_times(claims: Claims, expected: Expected, now: float) -> None:
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if now >= expires + expected.leeway_s:
        raise _refused("exp", f"expired {now - expires:.0f} s ago")
    if issued > now + expected.leeway_s:
        raise _refused("iat", f"issued {issued - now:.0f} s from now; the clocks may differ by {expected.leeway_s:g} s")
    if issued < now - expected.max_age_s - expected.leeway_s:
        raise _refused("iat", f"issued {now - issued:.0f} s ago; it may be {expected.max_age_s:g} s old")
    since = expected.signed_in_since
    if since is not None and _time(claims, "auth_time") < since - expected.leeway_s:
        raise _refused("auth_time", "she did not prove anew who she is")
    if "nbf" in claims and _time(claims, "nbf") > now + expected.leeway_s:
        raise _refused("nbf", "not valid yet")


def check_subject(subject: object) -> str:
    """A subject as OpenID Connect allows it: 1 to 255 ASCII characters. Raises TokenRefused."""
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isascii():
        raise _refused("sub", "none, or no subject")
    if not subject.isprintable():
        raise _refused("sub", "control characters")
    return subject


def check_logout_token(token: str, keys: Keys, expected: Expected, now: datetime) -> dict[str, Any]:
    """The claims of a back-channel logout token (OpenID Connect Back-Channel Logout §2.6). Raises TokenRefused.

    Whether its ``jti`` came before is the caller's to know.
    """
    _, claims = verified(token, keys, expected.algorithms)
    _check_parties({"sub": "-", **claims}, expected)
    _check_times({"exp": claims.get("iat"), **claims}, expected, now.timestamp())
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise _refused("events", "no logout")
    if "nonce" in claims:
        raise _refused("nonce", "an id_token is no logout token")
    if not isinstance(claims.get("jti"), str) or not 0 < len(claims["jti"]) <= 255:
        raise _refused("jti", "none")
    if not (isinstance(claims.get("sub"), str) or isinstance(claims.get("sid"), str)):
        raise _refused("sub", "neither person nor session")
    return claims


def at_hash(algorithm: str, access_token: str) -> str:
    """The left half of the access token's hash (OpenID Connect Core §3.1.3.6); Ed25519 hashes with SHA-512."""
    name = {"256": "sha256", "384": "sha384", "512": "sha512"}.get(algorithm[-3:], "sha512")
    digest = hashlib.new("sha512" if algorithm == "Ed25519" else name, access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(name, "no time")
    return float(value)


def _same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and given.isascii() and hmac.compare_digest(given, wanted)


def _refused(reason: str, why: str) -> TokenRefused:
    return TokenRefused("", reason=reason, log_message=f"an id_token is refused: {reason}: {why}")
