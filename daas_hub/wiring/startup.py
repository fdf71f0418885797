"""What is checked before the hub serves: settings that cannot work stop the start, with a sentence.

JupyterHub has no start-up hook. The template environment is the last thing that it builds from its settings
after it has read all of them and before it looks at any server, so ``configure`` registers an extension of that
environment, and what this raises stops the start (docs/decisions/0002).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension
from jupyterhub.app import JupyterHub

from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.core.profiles import missing_limits, unknown_volumes
from daas_hub.spawners import guard
from daas_hub.spawners.certificates import clear
from daas_hub.spawners.placement_settings import unknown_places
from daas_hub.spawners.refusals import ShortLog
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

from . import (
    alone,
    availability,
    claims,
    groups,
    hubside,
    interrupted,
    judging,
    launch_names,
    left_proxy,
    linking,
    read_only,
    renames,
    services,
)


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


def check(app: Any) -> None:
    """Raise ConfigError naming the setting, what it is and what is allowed."""
    app.log.addFilter(ShortLog())
    guard.install()
    for problem in judging.problems(app):
        raise ConfigError(problem)
    site = DaasHub.instance(config=app.config)
    certificates(app, site)
    left_proxy.spare_strangers(app)
    services.hand_on(app, site)
    services.hear_sigint()
    for name in site.backends:
        site.backend(name)
    settings = DaasSpawner(config=app.config)
    settings.sources()
    settings.allocator_ranges()
    for problem in unknown_places(settings, site.backends):
        raise ConfigError(problem)
    profile_list = settings.profile_list
    if not callable(profile_list):
        profiles = site.catalogue.read(profile_list)
        missing = missing_limits(profiles, site.ledger.limited_resources())
        names = [site.backend(name).volume_names() for name in site.backends]
        if None not in names:
            missing += unknown_volumes(profiles, {volume for known in names for volume in known or ()})
        if missing:
            raise ConfigError(" ".join(missing))
    claims.claim(site, app.log)
    alone.require(site)
    interrupted.revoke(app, site)
    hubside.add(app, site)
    availability.add(app)
    read_only.install()
    renames.follow(app.authenticator)
    groups.follow(site)
    linking.give(app, site)
    site.checked = True


def certificates(app: Any, site: DaasHub) -> None:
    """With internal_ssl: what hub and services prove by who they are, and nothing left of an earlier hub's starts."""
    if app.internal_ssl:
        paths = {"client_key": app.internal_ssl_key, "client_cert": app.internal_ssl_cert}
        paths["ca_certs"] = app.internal_ssl_ca
        site.tls = {name: str(Path(path).absolute()) for name, path in paths.items()}
        clear(Path(app.internal_certs_location))
        launch_names.teach(app)
