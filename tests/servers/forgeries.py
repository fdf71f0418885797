"""What can be wrong with an id_token, one thing each. Everything else of the token stays as the provider made it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

Json = dict[str, Any]
CLIENT = "daas-hub"
SECRET = "client secret/with=signs"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


_keys: dict[str, rsa.RSAPrivateKey] = {}


def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Made once in a run under each name."""
    if name not in _keys:
        _keys[name] = rsa.generate_private_key(65537, bits)
    return _keys[name]


def public(key: rsa.RSAPrivateKey, kid: str, **more: Any) -> Json:
    n = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": number(n.n), "e": number(n.e), **more}


@dataclass
class Token:
    """An id_token before it is put together: what a forgery changes."""

    header: Json
    claims: Json
    key: Any
    access_token: str
    client_secret: str = SECRET
    raw: Callable[[str], str] = lambda token: token

    def text(self) -> str:
        head, body = b64(json.dumps(self.header).encode()), b64(json.dumps(self.claims).encode())
        return self.raw(f"{head}.{body}.{b64(self.sign(f'{head}.{body}'.encode()))}")

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, bytes):
            kind = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}.get(self.header["alg"], "sha256")
            return hmac.new(self.key, data, kind).digest()
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        return bytes(self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())) if self.key else b""


def _pem() -> bytes:
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return rsa_key("first").public_key().public_bytes(*form)


def _header(**more: Any) -> Callable[[Token], None]:
    return lambda t: t.header.update(more)


def _claims(**more: Any) -> Callable[[Token], None]:
    return lambda t: t.claims.update(more)


def _without(name: str) -> Callable[[Token], None]:
    return lambda t: t.claims.pop(name, None)


def _later(name: str, by_s: float) -> Callable[[Token], None]:
    return lambda t: t.claims.update({name: time.time() + by_s})


def _key(key: Callable[[], Any], **header: Any) -> Callable[[Token], None]:
    def forge(token: Token) -> None:
        token.key = key()
        token.header.update(header)

    return forge


def _raw(change: Callable[[str], str]) -> Callable[[Token], None]:
    def forge(token: Token) -> None:
        token.raw = change

    return forge


def _other_payload(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{b64(json.dumps({**claims, 'sub': 'victim'}).encode())}.{signature}"


def _brings_its_key(token: Token) -> None:
    token.key = rsa_key("attacker")
    token.header["jwk"] = public(token.key, "first")


FORGERIES: dict[str, Callable[[Token], None]] = {
    "alg none": _key(lambda: None, alg="none"),
    "alg nOnE": _key(lambda: None, alg="nOnE"),
    "alg missing": lambda t: t.header.pop("alg"),
    "alg a list": _header(alg=["RS256"]),
    "HS256 with the public key": _key(_pem, alg="HS256"),
    "HS256 with the client's secret": _key(lambda: SECRET.encode(), alg="HS256"),
    "HS512 with the client's secret": _key(lambda: SECRET.encode(), alg="HS512"),
    "another algorithm than the key's": _header(alg="RS512"),
    "PS256 with a signature of RS256": _header(alg="PS256"),
    "ES256 with an RSA key's id": _key(lambda: ec.generate_private_key(ec.SECP256R1()), alg="ES256"),
    "another's key": _key(lambda: rsa_key("attacker")),
    "brings its key along": _brings_its_key,
    "says where its key is": _key(lambda: rsa_key("attacker"), kid="mine", jku="http://127.0.0.1:9/keys"),
    "an unknown key": _header(kid="nobody's"),
    "kid a number": _header(kid=1),
    "no kid, several keys": lambda t: t.header.pop("kid"),
    "a key for encryption": _key(lambda: rsa_key("encryption"), kid="encryption"),
    "a key of 1024 bits": _key(lambda: rsa_key("weak", 1024), kid="weak"),
    "crit": _header(crit=["exp"]),
    "b64 false": _header(b64=False),
    "an access token's typ": _header(typ="at+jwt"),
    "a logout token's typ": _header(typ="logout+jwt"),
    "a logout token": _claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "no signature": _raw(lambda t: t.rpartition(".")[0] + "."),
    "half a signature": _raw(lambda t: t[: -len(t.rpartition(".")[2]) // 2]),
    "another payload": _raw(_other_payload),
    "two parts": _raw(lambda t: t.rpartition(".")[0]),
    "five parts": _raw(lambda t: f"{t}.a.b"),
    "no text": _raw(lambda _: ""),
    "endless": _raw(lambda t: t + "A" * 300_000),
    "claims a list": _raw(lambda t: f"{t.split('.')[0]}.{b64(b'[]')}.{t.split('.')[2]}"),
    "iss another": _claims(iss="http://127.0.0.1:9"),
    "iss with a slash": lambda t: t.claims.update(iss=t.claims["iss"] + "/"),
    "iss missing": _without("iss"),
    "iss a list": lambda t: t.claims.update(iss=[t.claims["iss"]]),
    "aud another": _claims(aud="other"),
    "aud longer": _claims(aud=CLIENT + "2"),
    "aud missing": _without("aud"),
    "aud empty": _claims(aud=[]),
    "aud an object": _claims(aud={CLIENT: 1}),
    "two aud, no azp": _claims(aud=[CLIENT, "other"]),
    "two aud, azp the other": _claims(aud=[CLIENT, "other"], azp="other"),
    "azp another": _claims(azp="other"),
    "sub missing": _without("sub"),
    "sub empty": _claims(sub=""),
    "sub a number": _claims(sub=17),
    "sub too long": _claims(sub="a" * 256),
    "sub not ASCII": _claims(sub="аda"),
    "exp past": _later("exp", -61),
    "exp missing": _without("exp"),
    "exp text": _claims(exp="9999999999"),
    "exp infinite": _claims(exp=float("inf")),
    "exp true": _claims(exp=True),
    "iat in the future": _later("iat", 120),
    "iat an hour ago": _later("iat", -3600),
    "iat missing": _without("iat"),
    "nbf in the future": _later("nbf", 120),
    "nonce missing": _without("nonce"),
    "nonce another": _claims(nonce="another"),
    "nonce a list": lambda t: t.claims.update(nonce=[t.claims["nonce"]]),
    "at_hash of another token": _claims(at_hash=b64(hashlib.sha256(b"other").digest()[:16])),
    "at_hash whole": lambda t: t.claims.update(at_hash=b64(hashlib.sha256(t.access_token.encode()).digest())),
    "at_hash a number": _claims(at_hash=1),
}
"""Name → what it changes. Everything else of the token stays as the provider made it."""
