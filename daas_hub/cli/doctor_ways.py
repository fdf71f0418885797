"""What ``daas-hub doctor`` says where a hub has several ways to sign in: each of them, and what lies between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from traitlets.config import Config

from .finding import Finding


def each(authenticator: Any, kind: str) -> list[tuple[str, Any]]:
    """How a way is named in findings, and its authenticator; a hub with one way only is that way, without a name.

    ``kind``: ``directory`` or ``provider``, what the way asks.
    """
    ways = getattr(authenticator, "directory_ways" if kind == "directory" else "providers", None)
    if ways is not None:
        return [(f" {way.name}", way.authenticator) for way in ways.values()]
    return [("", authenticator)] if getattr(authenticator, kind, None) is not None else []


def linking(authenticator_class: Any, config: Config) -> Iterator[Finding]:
    """How people of providers get to accounts, and what is left when every way is away."""
    authenticator = authenticator_class(config=config)
    if not hasattr(authenticator, "directory_ways"):
        return
    if authenticator.providers and not authenticator.directory_ways:
        found = "there is no directory: what a provider says of somebody is all that is known of her"
        yield Finding("note", "linking", found, "add the site's directory to DaasAuthenticator.ways, if there is one")
    elif authenticator.providers:
        yield from _between(authenticator)
    if authenticator.break_glass_file:
        yield Finding("ok", "break-glass", f"{authenticator.local} can sign in when all ways are away")
    else:
        fix = "daas-hub break-glass, and DaasAuthenticator.break_glass_file"
        yield Finding("note", "break-glass", "nobody can sign in when all ways are away", fix)


def _between(authenticator: Any) -> Iterator[Finding]:
    directories = ", ".join(authenticator.directory_ways)
    for name, way in authenticator.providers.items():
        rule, what = way.authenticator.link_rule, f"linking {name}"
        if rule is None:
            yield Finding("ok", what, f"people prove an account of {directories} once")
        else:
            found = f"{way.authenticator.issuer} is believed: {rule.claim} is {rule.attribute} in {rule.directory}"
            fix = "make sure that people cannot choose the claim, and that neither is ever given to a second person"
            yield Finding("note", what, found, fix)
    if not authenticator.mail_host:
        fix = "set DaasAuthenticator.mail_host"
        yield Finding("note", "linking", "owners read on their home page only that a way in was linked", fix)


__all__ = ["each", "linking"]
