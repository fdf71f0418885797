"""What the hub tells a service by its environment, and how the hub writes it there.

The operator's settings of ``c.Culler`` and ``c.Reconciler`` stand in the hub's own file; services do not read that
file, which may run anything, but get the sections that concern them as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from daas_hub.core.errors import ConfigError

SECTIONS = ("DaasHub", "Culler", "Reconciler", "Console")
"""Sections of the operator's file that our services read, besides those of the backends."""

DEFAULT_BACKENDS = {"local": "daas_hub.backends.local.LocalBackend"}


TLS = {"client_key": "DAAS_HUB_SSL_KEY", "client_cert": "DAAS_HUB_SSL_CERT", "ca_certs": "DAAS_HUB_SSL_CA"}
"""Variables with the files of the hub's own certificate. The one that JupyterHub makes for a service is of the
servers' authority, which servers do not let in, and does not let the service check theirs."""


@dataclass(frozen=True)
class Environment:
    """What a service knows about its hub. Tokens are kept out of its repr, and so out of logs."""

    api_url: str
    api_token: str = field(repr=False)
    ledger_url: str = field(repr=False)
    hub_id: str = "hub"
    boot_id: str = ""
    """This boot of the hub; services live no longer than it."""
    hub_pid: int | None = None
    base_url: str = "/"
    config: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, str] = field(default_factory=dict)

    @property
    def backends(self) -> Mapping[str, str]:
        """Word → class, by import name."""
        known: Mapping[str, str] = self.config.get("DaasHub", {}).get("backends") or DEFAULT_BACKENDS
        return known

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """From the process's environment. Raises ConfigError naming what is missing."""
        pid = environ.get("DAAS_HUB_PID", "")
        files = {name: environ.get(variable, "") for name, variable in TLS.items()}
        return cls(
            api_url=_needed(environ, "JUPYTERHUB_API_URL"),
            api_token=_needed(environ, "JUPYTERHUB_API_TOKEN"),
            ledger_url=_needed(environ, "DAAS_LEDGER_URL"),
            hub_id=environ.get("DAAS_HUB_ID", "hub"),
            boot_id=environ.get("DAAS_HUB_BOOT_ID", ""),
            hub_pid=int(pid) if pid.isdecimal() else None,
            base_url=environ.get("JUPYTERHUB_BASE_URL", "/"),
            config=load_config_from_env(environ),
            tls={name: path for name, path in files.items() if path},
        )


def _needed(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise ConfigError(f"The environment variable {name} is not set: the hub sets it for its services.")
    return value


def load_config_from_env(environ: Mapping[str, str]) -> dict[str, Any]:
    """The operator's sections as the hub wrote them. Raises ConfigError."""
    try:
        config = json.loads(environ.get("DAAS_SERVICE_CONFIG") or "{}")
    except ValueError as error:
        raise ConfigError(f"DAAS_SERVICE_CONFIG is not JSON: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(section, dict) for section in config.values()):
        raise ConfigError("DAAS_SERVICE_CONFIG must be a JSON object of sections.")
    return config


def dump_config(config: Mapping[str, Any], sections: Collection[str]) -> str:
    """Those sections of the hub's config as JSON. Raises ConfigError for what is no plain data, naming it."""
    return json.dumps({name: _plain(name, dict(config.get(name, {}))) for name in sections})


def _plain(where: str, value: Any) -> Any:
    """Settings in the form of JSON: classes by their import name, sets as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{where}.{key}", one) for key, one in value.items()}
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(where, one) for one in value)
    if isinstance(value, (list, tuple)):
        return [_plain(f"{where}[{number}]", one) for number, one in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigError(f"c.{where} must be plain data for our services, not {type(value).__name__}.")


# ---------------------------------------------------------------- for configure(c)

HUB_SCOPE = "custom:daas:hub"
"""What our services may ask of the hub beyond JupyterHub's own interface (``/hub/api/daas/``). No person has it."""

SCOPES: Mapping[str, Mapping[str, str]] = {
    # It asks servers with their own tokens and stops them at their backend: of the hub it asks nothing.
    "daas-culler": {},
    "daas-reconciler": {
        "start:servers": "let the hub adopt a server that outlived a hub",
        HUB_SCOPE: "let the hub look at everybody who has signed in (the sweep)",
    },
}
"""Service → scope → why it needs it."""


def definitions() -> list[dict[str, Any]]:
    """The two services for ``c.JupyterHub.services``."""
    return [
        {"name": "daas-culler", "command": [sys.executable, "-m", "daas_hub.services.culler"], "display": False},
        {
            "name": "daas-reconciler",
            "command": [sys.executable, "-m", "daas_hub.services.reconciler"],
            "display": False,
        },
    ]


def roles() -> list[dict[str, Any]]:
    """Roles for ``c.JupyterHub.load_roles``, of the services that need a scope; the hub deletes roles that went."""
    return [
        {"name": name, "description": f"The least that {name} needs", "services": [name], "scopes": list(scopes)}
        for name, scopes in SCOPES.items()
        if scopes
    ]
