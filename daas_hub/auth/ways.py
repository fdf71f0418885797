"""The ways of signing in that a site configures, each made into an authenticator of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from jupyterhub.auth import Authenticator
from traitlets.config import Config

from daas_hub.core.errors import ConfigError

KEYS = {"kind", "name", "label", "settings"}
SETTING = "DaasAuthenticator.ways"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


@dataclass(frozen=True)
class Way:
    """One directory or provider."""

    kind: str
    name: str
    label: str
    authenticator: Any


def build(ways: Sequence[Mapping[str, Any]], config: Config) -> list[Way]:
    """All of them, in the order given. Raises ConfigError, the first problem named.

    What ``c.Authenticator`` and ``c.DaasAuthenticator`` say about people (administrators, who is blocked) counts for
    every way that does not say it itself.
    """
    for section in ("DaasLDAPAuthenticator", "DaasOIDCAuthenticator"):
        if config.get(section):
            raise ConfigError(f"c.{section} has no effect beside {SETTING}: write it into the settings of a way.")
    made = [_build(dict(way), number, config) for number, way in enumerate(ways, 1)]
    _require_unique("name", [way.name for way in made])
    _require_unique("issuer", [issuer_of(way) for way in made])
    return made


def issuer_of(way: Way) -> str:
    """The issuer of the identities that come by it."""
    issuer: str = way.authenticator.directory.issuer if way.kind == "ldap" else way.authenticator.issuer
    return issuer


def _build(way: dict[str, Any], number: int, config: Config) -> Way:
    unknown, name, kind = set(way) - KEYS, way.get("name"), way.get("kind")
    if unknown:
        raise ConfigError(f"{SETTING}, way {number}: {sorted(unknown)} is not known; allowed are {sorted(KEYS)}.")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigError(f"{SETTING}, way {number}: name is {name!r}; allowed are a-z, 0-9 and -, at most 20.")
    settings = dict(way.get("settings") or {})
    made_by: Any
    if kind == "ldap":
        from daas_hub.auth.ldap import DaasLDAPAuthenticator  # needs ldap3

        made_by = DaasLDAPAuthenticator
        settings = {"directory_name": name, **settings}
    elif kind == "oidc":
        from daas_hub.auth.oidc import DaasOIDCAuthenticator  # needs oauthenticator

        made_by = DaasOIDCAuthenticator
        settings = {**settings, "way_name": name}
    else:
        raise ConfigError(f"{SETTING}, way {name}: kind is {kind!r}; allowed are 'ldap' and 'oidc'.")
    try:
        made = made_by(config=_config(made_by.__name__, settings, config))
    except ConfigError as error:
        raise ConfigError(f"{SETTING}, way {name}: {error.message}") from error
    return Way(kind, name, str(way.get("label") or name), made)


def _config(section: str, settings: dict[str, Any], config: Config) -> Config:
    people = set(Authenticator.class_trait_names(config=True))
    shared = deepcopy(config.get("Authenticator", Config()))
    own = {name: value for name, value in config.get("DaasAuthenticator", {}).items() if name in people}
    merged = Config({"Authenticator": shared})
    merged.merge(Config({"Authenticator": deepcopy(own)}))
    merged.merge(Config({section: settings}))
    return merged


def _require_unique(what: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ConfigError(f"{SETTING}: {', '.join(twice)} is the {what} of two ways; each has its own.")
