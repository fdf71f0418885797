"""What ``daas-hub doctor`` asks a directory: each of its servers by itself, as a sign-in would ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from traitlets.config import Config

from daas_hub.core.errors import DaasError, DirectoryUnavailable

from .doctor_ways import each, secret
from .finding import Finding

if TYPE_CHECKING:
    # Needs the extra ldap, which a hub without a directory has not.
    from daas_hub.clients.directory_look import Seen

CHECK = "check server, certificate, bind DN and password of the service bind"
SOON_DAYS = 14
CLOCK_S = 300.0
"""Active Directory refuses tickets beyond that; tokens and certificates are judged by the clock, too."""
FIXES = (
    ("certificate has expired", "renew the server's certificate"),
    ("self-signed certificate", "name the CA that signed the server's certificate in tls_ca_file"),
    ("self signed certificate", "name the CA that signed the server's certificate in tls_ca_file"),
    (
        "unable to get local issuer",
        "name the CA that signed the server's certificate, and what is between, in tls_ca_file",
    ),
    ("mismatch", "name the server as its certificate does, or have the name added to the certificate"),
    ("certificate verify failed", "name the CA that signed the server's certificate in tls_ca_file"),
    ("startTLS failed", "let the server offer StartTLS, or use ldaps://"),
    ("is refused", "correct bind_dn and bind_password_file, and look whether the service account is locked"),
    ("invalid server address", "correct the server's name: this machine's DNS does not know it"),
    ("srv_domain", "correct srv_domain, or list servers in server_uris"),
)
"""Words of a failure, and what mends it; the first that fits."""


def directory(authenticator_class: Any, config: Config, within_s: float) -> Iterator[Finding]:
    """Every server: the bind, its certificate, the bases, its clock; nothing where people sign in otherwise."""
    ways = each(authenticator_class(config=config), "directory")
    if not ways:
        yield Finding("note", "directory", f"{authenticator_class.__name__} asks none")
    for name, way in ways:
        yield from secret(f"directory{name}", "bind_password_file", way.bind_password_file)
        yield from _directory(f"directory{name}", way.directory, within_s)


def _directory(what: str, asked: Any, within_s: float) -> Iterator[Finding]:
    try:
        found = asyncio.run(asyncio.wait_for(_look(asked), within_s))
    except (DaasError, TimeoutError) as error:
        text = getattr(error, "log_message", "") or f"no answer within {within_s:g} s"
        yield Finding("error", what, text, fix(text))
        return
    for uri, seen in found.items():
        yield from _server(f"{what} {uri}", seen)


def fix(text: str) -> str:
    """What mends a failure of these words."""
    return next((mend for words, mend in FIXES if words in text), CHECK)


def _server(what: str, seen: Seen | DirectoryUnavailable) -> Iterator[Finding]:
    if isinstance(seen, DirectoryUnavailable):
        yield Finding("error", what, seen.log_message, fix(seen.log_message))
        return
    yield Finding("ok", what, "the service bind works")
    for setting, base, there in seen.bases:
        if not there:
            found = f"the service account finds nothing at {setting} {base!r}"
            yield Finding("error", what, found, f"correct {setting}, or let the service account read it")
    if seen.certificate_until is not None:
        days = (seen.certificate_until - datetime.now(UTC)).days
        if days < SOON_DAYS:
            yield Finding("note", what, f"its certificate ends in {days} days", "renew the server's certificate")
    if seen.ahead_s is not None and abs(seen.ahead_s) > CLOCK_S:
        found = f"this clock is {abs(seen.ahead_s):.0f} s {'ahead of' if seen.ahead_s > 0 else 'behind'} the server's"
        yield Finding("error", what, found, "let both machines keep their time (chrony, systemd-timesyncd)")


async def _look(asked: Any) -> dict[str, Seen | DirectoryUnavailable]:
    try:
        found: dict[str, Seen | DirectoryUnavailable] = await asked.look()
        return found
    finally:
        asked.close()
