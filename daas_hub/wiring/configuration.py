"""What ``configure(c)`` sets in JupyterHub's configuration (design.md §4.7), and how it stays out of the way.

Every value is set only where the operator has not set one; one that is set after the call replaces ours. Lists and
dicts that hold parts of both grow, whoever sets them when (``keeping``). Calling twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daas_hub.core.errors import ConfigError

from . import keeping

OWNED: Mapping[str, Mapping[str, Any]] = {
    "JupyterHub": {
        "spawner_class": "daas",
        # True would stop every server at a normal restart of the hub.
        "cleanup_servers": False,
        "allow_named_servers": True,
        "named_server_limit_per_user": 5,
        # Each waiting start counts for it: 100 queued jobs would shut out everybody (handlers/base.py:1106).
        "concurrent_spawn_limit": 0,
    },
    "Authenticator": {
        # The identity, and with it the account, travels in auth_state.
        "enable_auth_state": True,
        "auth_refresh_age": 300,
        # Her groups count as they are now, whoever presses Start: a person, an administrator or a service.
        "refresh_pre_spawn": True,
        # Else who is no longer allowed could still be started by others, or by her own tokens (handlers/base.py:448).
        "auth_refresh_strict": True,
    },
    # The hub would exit after some failed starts in a row and take the clean-up with it.
    "Spawner": {"consecutive_failure_limit": 0},
}
"""Class → trait → value: `daas-hub doctor` prints them with what is in force."""


def apply(c: Any, overrides: Mapping[str, Any]) -> None:
    """The body of ``daas_hub.configure``."""
    for section, values in OWNED.items():
        for trait, value in values.items():
            default(c, section, trait, value)
    keeping.add(c)
    keeping.keep()
    for name, value in overrides.items():
        section, separator, trait = name.partition("__")
        if not (section and separator and trait):
            raise ConfigError(f"configure(c, {name}=…): write overrides as Class__trait=value.")
        c[section][trait] = value


def default(c: Any, section: str, trait: str, value: Any) -> None:
    """Set a trait unless the operator did."""
    if trait not in c[section]:
        c[section][trait] = value
