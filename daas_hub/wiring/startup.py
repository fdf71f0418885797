"""What is checked before the hub serves: settings that cannot work stop the start, with a sentence.

JupyterHub has no start-up hook. The template environment is the last thing that it builds from its settings
after it has read all of them and before it looks at any server, so ``configure`` registers an extension of that
environment, and what this raises stops the start (docs/decisions/0002).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension
from jupyterhub.app import JupyterHub
from jupyterhub.crypto import CryptKeeper
from traitlets import HasTraits
from traitlets.config import Config

from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.core.profiles import missing_limits
from daas_hub.spawners import guard
from daas_hub.spawners.refusals import ShortLog
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

SECTIONS = ("DaasHub", "Culler", "Reconciler", "Console")
"""Sections of the operator's file that our services read, besides those of the backends."""


class StartupChecks(Extension):
    """Opens the ledger and judges the settings, once, when the hub starts."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if not JupyterHub.initialized():
            return
        app = JupyterHub.instance()
        if not issubclass(app.spawner_class, DaasSpawner):
            return
        try:
            check(app)
        except DaasError as error:
            app.log.critical("daas_hub refuses to start: %s", error.log_message)
            raise SystemExit(1) from error


def check_names(config: Config, classes: Sequence[type[HasTraits]]) -> None:
    """Raise ConfigError for a setting of one of our classes that does not exist: renamed or mistyped.

    A setting that is silently ignored is how everybody was let in once (oauthenticator CVE-2020-26250).
    """
    for cls in classes:
        known = set(cls.class_trait_names(config=True))
        for name in config.get(cls.__name__, {}):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]}?" if close else ""
                raise ConfigError(f"c.{cls.__name__}.{name} is not a setting of {cls.__name__}.{hint}")


def check(app: Any) -> None:
    """Raise ConfigError naming the setting, what it is and what is allowed."""
    app.log.addFilter(ShortLog())
    guard.install()
    site_classes = [DaasHub, DaasSpawner, *DaasHub(config=app.config).backends.values()]
    ours = [c for c in (*site_classes, app.authenticator_class) if c.__module__.startswith("daas_hub.")]
    check_names(app.config, ours)
    if app.authenticator.enable_auth_state and not CryptKeeper.instance().keys:
        raise ConfigError(
            "Authenticator.enable_auth_state is on, but there is no key: set the environment variable "
            "JUPYTERHUB_CRYPT_KEY to the output of `openssl rand -hex 32`, kept outside the database."
        )
    site = DaasHub.instance(config=app.config)
    hand_on(app, site)
    for name in site.backends:
        site.backend(name)
    profile_list = DaasSpawner(config=app.config).profile_list
    if not callable(profile_list):
        missing = missing_limits(site.catalogue.read(profile_list), site.ledger.limited_resources())
        if missing:
            raise ConfigError(" ".join(missing))


def hand_on(app: Any, site: DaasHub) -> None:
    """Give our services what they need to know, now that every setting is read; they are started after this."""
    sections = {name: dict(app.config.get(name, {})) for name in SECTIONS + tuple(site.backend_sections())}
    environment = {
        "DAAS_LEDGER_URL": site.absolute_ledger_url(),
        "DAAS_HUB_ID": site.hub_id,
        "DAAS_SERVICE_CONFIG": json.dumps(sections, default=as_json),
    }
    for service in app._service_map.values():
        if service.command[1:2] == ["-m"] and service.command[2].startswith("daas_hub."):
            service.environment = {**environment, **service.environment}


def as_json(value: Any) -> Any:
    """Settings in the form of JSON: classes by their import name, sets as lists."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value)
    raise ConfigError(f"A setting of a service must be plain data, not {type(value).__name__}.")
