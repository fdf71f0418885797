"""What ``daas-hub doctor`` says where a hub has several ways to sign in: each of them, and what lies between them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from traitlets.config import Config

from daas_hub.auth.common import lets_somebody_in

from .finding import Finding


def each(authenticator: Any, kind: str) -> list[tuple[str, Any]]:
    """How a way is named in findings, and its authenticator; a hub with one way only is that way, without a name.

    ``kind``: ``directory`` or ``provider``, what the way asks.
    """
    ways = getattr(authenticator, "directory_ways" if kind == "directory" else "providers", None)
    if ways is not None:
        return [(f" {way.name}", way.authenticator) for way in ways.values()]
    return [("", authenticator)] if getattr(authenticator, kind, None) is not None else []


def secret(what: str, setting: str, path: str) -> Iterator[Finding]:
    """A note where everybody on this machine can read a password, people's own servers included."""
    try:
        mode = Path(path).stat().st_mode if path else 0
    except OSError:
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        found = f"{setting} {path} can be read or written by everybody here (mode {stat.S_IMODE(mode):04o})"
        yield Finding("note", what, found, "give it to the hub's user, with mode 0600")


def lists(authenticator_class: Any, config: Config) -> Iterator[Finding]:
    """A note for each way by which nobody is let in; a provider's own lists count only where there is no directory."""
    authenticator = authenticator_class(config=config)
    ways = each(authenticator, "directory") or each(authenticator, "provider")
    for name, way in ways:
        if not lets_somebody_in(way):
            kind = "directory" if getattr(way, "directory", None) is not None else "identity provider"
            found = "nobody is let in: neither people nor groups are named"
            yield Finding("note", f"{kind}{name}", found, "set allowed_groups, allowed_users or allow_all")


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


__all__ = ["each", "linking", "lists", "secret"]
