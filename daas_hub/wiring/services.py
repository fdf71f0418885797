"""Culler and reconciler as services of the hub: who they are, what they may, what they are told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from jupyterhub.crypto import KEY_ENV, CryptKeeper

from daas_hub.core.lifecycle import read_rules
from daas_hub.services import settings
from daas_hub.services.culler import Culler
from daas_hub.services.reconciler import Reconciler
from daas_hub.spawners.runtime import DaasHub

CLASSES = (Culler, Reconciler)
"""Whose settings are judged when the hub starts; a service that refuses its own would only show in a log."""

CLUSTER = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
"""By which a program in a pod finds the API server (Kubernetes, "Accessing the Kubernetes API from a Pod")."""


def apply(c: Any, append: Callable[..., None], there: Callable[..., Any]) -> None:
    """Add services and roles to the hub's config; what is there already stays."""
    append(there(c.JupyterHub, "services", []), settings.definitions(), key="name")
    append(there(c.JupyterHub, "load_roles", []), settings.roles(), key="name")


def check(config: Mapping[str, Any]) -> None:
    """Raise ConfigError where the culler's rules cannot work."""
    read_rules(config.get("Culler", {}).get("rules", []))


def hear_sigint() -> None:
    """Let our services hear SIGINT, also where the hub was started in the background of a shell, which ignores it.

    What is ignored is inherited, and the hub ends its services by SIGINT first: one that is just starting would miss
    it, and the hub waits 10 s for each (LocalProcessSpawner.interrupt_timeout).
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hand_on(app: Any, site: DaasHub) -> None:
    """Give our services what they need to know, now that every setting is read; they are started after this."""
    backends = {word: f"{cls.__module__}.{cls.__qualname__}" for word, cls in site.backends.items()}
    known = {
        **app.config,
        "DaasHub": {**app.config.get("DaasHub", {}), "backends": backends},
        "Authenticator": {"blocked_users": app.authenticator.blocked_users},
        # The line that the operator put above every page of the hub stands above the console's too.
        "Console": {"announcement": str(app.template_vars.get("announcement") or "")},
    }
    sections = {*settings.SECTIONS, "Authenticator", *site.backend_sections()}
    environment = {
        "DAAS_LEDGER_URL": site.absolute_ledger_url(),
        "DAAS_HUB_ID": site.hub_id,
        "DAAS_HUB_BOOT_ID": site.boot_id,
        "DAAS_HUB_PID": str(os.getpid()),
        "DAAS_SERVICE_CONFIG": settings.dump_config(known, sections),
        # In a pod: where its cluster is. The hub hands on little of its own environment.
        **{name: os.environ[name] for name in CLUSTER if name in os.environ},
    }
    environment |= {settings.TLS[name]: path for name, path in site.tls.items()}
    if "TZ" in os.environ:
        # The hub keeps it from services, whose logs would then tell other times than its own.
        environment["TZ"] = os.environ["TZ"]
    for service in app._service_map.values():
        if service.command[1:2] == ["-m"] and service.command[2].startswith("daas_hub."):
            service.environment = {**environment, **service.environment}
        if service.command[1:3] == ["-m", "daas_hub.services.culler"]:
            # It asks each server with that server's own token, which the ledger holds encrypted (decision 0040).
            service.environment[KEY_ENV] = ";".join(key.hex() for key in CryptKeeper.instance().keys)
