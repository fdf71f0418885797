"""What ``daas-hub doctor`` asks an OpenID provider: what a sign-in would ask, and whether the two clocks agree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from traitlets.config import Config

from daas_hub.core.errors import DaasError

from .doctor_ways import each, secret
from .finding import Finding

WHAT = "identity provider"
CHECK = "check issuer, tls_ca_file and the way there; the issuer is written exactly as the provider writes it"
CLOCKS = "let both machines keep their time (chrony, systemd-timesyncd), or raise clock_leeway_s"


def provider(authenticator_class: Any, config: Config, within_s: float) -> Iterator[Finding]:
    """Discovery, keys, what the provider can do; nothing where people sign in otherwise."""
    for name, way in each(authenticator_class(config=config), "provider"):
        yield from secret(f"{WHAT}{name}", "client_secret_file", way.client_secret_file)
        yield from _provider(f"{WHAT}{name}", way, within_s)


def _provider(what: str, authenticator: Any, within_s: float) -> Iterator[Finding]:
    asked = authenticator.provider
    try:
        ahead_s, metadata = asyncio.run(asyncio.wait_for(_ask(asked), within_s))
    except (DaasError, TimeoutError) as error:
        text = getattr(error, "log_message", "") or f"no answer within {within_s:g} s"
        yield Finding("error", what, text, CHECK)
        return
    yield Finding("ok", what, f"{asked.settings.issuer} answers, and is this issuer")
    yield from _can(what, metadata, set(authenticator.algorithms))
    yield from _exchanges(what, metadata, authenticator.site_token_names)
    if ahead_s is None:
        yield Finding("note", what, "it does not say its time")
    elif abs(ahead_s) > authenticator.clock_leeway_s:
        found = f"this clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the provider's"
        yield Finding("error", what, f"{found}; {authenticator.clock_leeway_s:g} s are allowed", CLOCKS)


def _can(what: str, metadata: dict[str, Any], algorithms: set[str]) -> Iterator[Finding]:
    """What a provider says that it can do; one that says nothing of it is believed."""
    signs = set(metadata.get("id_token_signing_alg_values_supported") or algorithms)
    if not signs & algorithms:
        found = f"it signs with {', '.join(sorted(signs))}, none of which is accepted"
        yield Finding("error", what, found, "let the client's id_tokens be signed with RS256 or ES256")
    if "S256" not in (metadata.get("code_challenge_methods_supported") or ["S256"]):
        yield Finding("note", what, "it knows no PKCE with S256; the hub sends it all the same")
    if "refresh_token" not in (metadata.get("grant_types_supported") or ["refresh_token"]):
        found = "it gives no refresh tokens: people sign in again whenever an access token ends"
        yield Finding("note", what, found, "allow them for this client")


def _exchanges(what: str, metadata: dict[str, Any], names: Sequence[str]) -> Iterator[Finding]:
    """Whether it says that it exchanges tokens, where servers are to have some."""
    if not names:
        return
    # Needs the extra oidc, which a hub without providers has not.
    from daas_hub.clients.oidc import EXCHANGE

    if EXCHANGE not in (metadata.get("grant_types_supported") or [EXCHANGE]):
        found = f"it does not say that it exchanges tokens; servers would have none of {', '.join(names)}"
        fix = "allow token exchange (RFC 8693) at the provider and for this client, or empty site_tokens"
        yield Finding("note", what, found, fix)


async def _ask(asked: Any) -> tuple[float | None, dict[str, Any]]:
    try:
        return await asked.ping(), await asked.metadata()
    finally:
        asked.close()
