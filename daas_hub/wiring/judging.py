"""What is wrong with a hub's settings, told by the loaded settings and classes alone: nothing is opened or written.

The hub refuses to start with the first problem (``startup.check``); ``daas-hub doctor`` prints all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jupyterhub.crypto import KEY_ENV, CryptKeeper
from traitlets import HasTraits, TraitError
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.services import settings
from daas_hub.services.console import registration
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

from . import services
from .configuration import OWNED

REMEDY = "append to c.JupyterHub.{0}, or call configure(c) last"


def problems(app: Any) -> Iterator[str]:
    """One sentence for each thing that cannot work; ``app`` is a JupyterHub that has its settings, started or not."""
    looks: list[Callable[[], Iterator[str]]] = [
        lambda: spawner(app.spawner_class),
        lambda: configured(app.config),
        lambda: crypt_key(app.config),
        lambda: names(app),
        lambda: values(app.config),
        lambda: certificate_names(app.config, app.spawner_class),
        lambda: rules(app.config),
        lambda: missing_services(app.services),
        lambda: missing_roles(app.load_roles),
        lambda: profiles(app.config),
    ]
    for look in looks:
        try:
            yield from look()
        except DaasError as error:
            yield error.log_message
        except TraitError as error:
            yield str(error)


def spawner(cls: type[Any]) -> Iterator[str]:
    """Another spawner starts servers without limits, ledger and real accounts."""
    if not issubclass(cls, DaasSpawner):
        yield (
            f"JupyterHub.spawner_class is {cls.__name__}: servers would start without accounts, limits and ledger. "
            'Allowed are "daas" and classes derived from DaasSpawner.'
        )


def configured(config: Config) -> Iterator[str]:
    """Without ``configure(c)`` JupyterHub's own values are in force, which do not fit (``configuration.OWNED``)."""
    missing = [f"{section}.{name}" for section, owned in OWNED.items() for name in owned if name not in config[section]]
    if missing:
        yield (
            f"configure(c) was never called: {', '.join(missing)} not set. Whoever administers this hub adds "
            "`from daas_hub import configure` and `configure(c)` to its configuration file."
        )


def crypt_key(config: Config) -> Iterator[str]:
    """The key is always needed: sign-ins and, whatever `enable_auth_state` says, each server's token are kept by it."""
    try:
        if CryptKeeper(config=config).keys:
            return
        found = "there is no crypt key."
    except ValueError as error:
        found = f"the crypt key cannot be used: {error}"
    yield (
        f"Sign-ins and the servers' tokens are kept encrypted, but {found} Set the environment variable {KEY_ENV} to "
        "the output of `openssl rand -hex 32`, kept outside the database."
    )


def names(app: Any) -> Iterator[str]:
    """Settings of our classes that do not exist."""
    backends = DaasHub(config=app.config).backends.values()
    site_classes = [DaasHub, DaasSpawner, *services.CLASSES, *backends, app.authenticator_class]
    for cls in site_classes:
        if cls.__module__.startswith("daas_hub."):
            yield from unknown_names(app.config, cls)


def unknown_names(config: Config, cls: type[HasTraits]) -> Iterator[str]:
    """Settings of one class that do not exist, each with the nearest one that does."""
    known = set(cls.class_trait_names(config=True))
    for name in config.get(cls.__name__, {}):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            yield f"c.{cls.__name__}.{name} is not a setting of {cls.__name__}.{hint}"


def check_names(config: Config, classes: Sequence[type[HasTraits]]) -> None:
    """Raise ConfigError for a setting of one of our classes that does not exist: renamed or mistyped.

    A setting that is silently ignored is how everybody was let in once (oauthenticator CVE-2020-26250).
    """
    for cls in classes:
        for problem in unknown_names(config, cls):
            raise ConfigError(problem)


def values(config: Config) -> Iterator[str]:
    """Values that a setting of ours refuses: hub and backends; the services' own are judged without making them."""
    site = DaasHub(config=config)
    for cls in site.backends.values():
        try:
            cls(parent=site, hub_id=site.hub_id)
        except (TraitError, DaasError) as error:
            yield str(error)
    somebody = HasTraits()
    for service in services.CLASSES:
        traits = service.class_traits(config=True)
        for name, value in config.get(service.__name__, {}).items():
            if name in traits and not isinstance(value, LazyConfigValue):
                try:
                    traits[name]._validate(somebody, value)
                except TraitError as error:
                    yield f"c.{service.__name__}.{name}: {error}"


def certificate_names(config: Config, cls: type[Any]) -> Iterator[str]:
    """Settings of JupyterHub by which servers' certificates would share names: then each is good for all of them."""
    for section in cls.section_names():
        for name in ("ssl_alt_names", "ssl_alt_names_include_local"):
            if name in config.get(section, {}):
                yield (
                    f"c.{section}.{name} is not used: the certificate of a server names the server alone, by its "
                    "backend. Remove the setting."
                )


def rules(config: Config) -> Iterator[str]:
    """Rules of the culler that cannot work; ``services.check`` raises the first."""
    services.check(config)
    yield from ()


def missing_services(there: Sequence[Any]) -> Iterator[str]:
    """Our services that the hub would not start: nobody would then stop, clean up or show anything."""
    known = {service.get("name") for service in there}
    for name in (registration.NAME, *settings.SCOPES):
        if name not in known:
            yield f"The service {name!r} is not among JupyterHub.services: {REMEDY.format('services')}."


def missing_roles(there: Sequence[Any]) -> Iterator[str]:
    """What our services may not do, though they must."""
    for ours in (*registration.console_roles(), *settings.roles()):
        name = ours["name"]
        granted: set[str] = set()
        for role in there:
            if name in role.get("services", ()):
                granted |= set(role.get("scopes", ()))
        lacking = [scope for scope in ours["scopes"] if scope not in granted]
        if lacking:
            yield (
                f"JupyterHub.load_roles gives the service {name!r} no {', '.join(lacking)}: "
                f"{REMEDY.format('load_roles')}."
            )


def profiles(config: Config) -> Iterator[str]:
    """A list of profiles that cannot be read; a function is asked when somebody starts a server."""
    profile_list = DaasSpawner(config=config).profile_list
    if not callable(profile_list):
        DaasHub(config=config).catalogue.read(profile_list)
    yield from ()
