"""What ``daas-hub doctor`` looks at: each look is a small function that yields findings and never raises."""

from __future__ import annotations

import asyncio
import ctypes
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from daas_hub.backends.base import Backend
from daas_hub.backends.local import LocalBackend
from daas_hub.clients import cgroups
from daas_hub.core.errors import DaasError
from daas_hub.core.profiles import missing_limits
from daas_hub.db import migrate
from daas_hub.db.engine import Database
from daas_hub.db.ledger import Ledger
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner
from daas_hub.wiring import judging
from daas_hub.wiring.configuration import OWNED

from .doctor_directory import directory
from .doctor_oidc import provider
from .doctor_proxy import proxy
from .doctor_ways import linking, lists
from .finding import Finding
from .urls import absent, masked

ASK_WITHIN_S = 15.0
EXTRAS = "correct the name, or install what it needs: sign-in has the extras ldap and oidc of daas_hub"
STA_UNSYNC = 0x0040


def examine(path: Path) -> Iterator[Finding]:
    """Everything, in the order in which a hub would meet it. Nothing is made, moved or written."""
    JupyterHub.clear_instance()
    try:
        # The hub of this process, as in a real start: `configure(c)` looks for it.
        app = JupyterHub.instance()
        app.update_config(PyFileConfigLoader(path.name, path=str(path.parent.resolve())).load_config())
        resolved = app.authenticator_class
        yield Finding("ok", "configuration", f"{path} loads")
        yield from looks(app, resolved)
    except ConfigFileNotFound:
        yield Finding("error", "configuration", f"{path} is not there", "name it with --config")
    except (Exception, SystemExit) as error:  # the operator's own code: it may raise anything
        fix = EXTRAS if "could not be imported" in str(error) else "mend the line that is named"
        yield Finding("error", "configuration", f"{path}: {error}", fix)
    finally:
        JupyterHub.clear_instance()


def looks(app: Any, authenticator_class: Any) -> Iterator[Finding]:
    """Each look at a hub that has its settings; one that cannot be taken does not hinder the others."""
    config = app.config
    each: list[Callable[[], Iterator[Finding]]] = [
        lambda: owned_settings(config),
        lambda: judged(app),
        lambda: crypt_key(config),
        lambda: directory(authenticator_class, config, ASK_WITHIN_S),
        lambda: provider(authenticator_class, config, ASK_WITHIN_S),
        lambda: lists(authenticator_class, config),
        lambda: linking(authenticator_class, config),
        lambda: ledger(config),
        lambda: backends(config),
        lambda: proxy(app, ASK_WITHIN_S),
        clock,
    ]
    told: set[str] = set()
    for look in each:
        try:
            for finding in look():
                told.add(finding.found)
                yield finding
        except (DaasError, TraitError) as error:
            # What spoils one look spoils others: it is told once.
            if str(error) not in told:
                told.add(str(error))
                yield Finding("error", "settings", str(error), "correct the setting that is named")


def judged(app: Any) -> Iterator[Finding]:
    """What the hub itself would refuse to start with."""
    found = list(judging.problems(app))
    for problem in dict.fromkeys(found):
        yield Finding("error", "settings", problem, "the hub refuses to start until this is corrected")
    if not found:
        yield Finding("ok", "settings", "names, values, rules, profiles, services and roles can work")


def owned_settings(config: Config) -> Iterator[Finding]:
    """The settings that daas_hub owns, and what is in force."""
    for section, values in OWNED.items():
        for trait, ours in values.items():
            name = f"{section}.{trait}"
            if trait not in config[section]:
                yield Finding("error", name, "not set", "call daas_hub.configure(c) in the configuration")
            elif config[section][trait] != ours:
                yield Finding("note", name, f"{config[section][trait]!r}", f"daas_hub would set {ours!r}")
            else:
                yield Finding("ok", name, f"{ours!r}")


def crypt_key(config: Config) -> Iterator[Finding]:
    """That there is one; what is wrong about it is told by ``judged``, as the hub tells it."""
    if not list(judging.crypt_key(config)):
        yield Finding("ok", "crypt key", "there is one")


def ledger(config: Config) -> Iterator[Finding]:
    """The ledger can be read; its path or address is named, never a password."""
    site = DaasHub(config=config)
    shown = masked(site.ledger_url)
    db = None
    try:
        db = Database(site.ledger_url, busy_timeout_s=float(site.ledger_busy_timeout_s))
        there = "" if absent(db) else db.read(migrate.current)
        if not there:
            yield Finding("note", "ledger", f"{shown} does not exist yet: it is made at the hub's first start")
        elif there < migrate.head():
            found = f"{shown} is of revision {there}; the hub's next start brings it to {migrate.head()}"
            yield Finding("note", "ledger", found, "make a backup first")
        else:
            migrate.check(db)
            yield Finding("ok", "ledger", shown)
            yield from countable(config, Ledger(db))
    except DaasError as error:
        yield Finding("error", "ledger", f"{shown}: {error.message}", "mend DaasHub.ledger_url")
    finally:
        if db is not None:
            db.close()


def countable(config: Config, opened: Ledger) -> Iterator[Finding]:
    """Profiles say how much they take of everything that the ledger has a limit on."""
    profile_list = DaasSpawner(config=config).profile_list
    if not callable(profile_list):
        profiles = DaasHub(config=config).catalogue.read(profile_list)
        for problem in missing_limits(profiles, opened.limited_resources()):
            yield Finding("error", "profiles", problem, "add the amount to the profile, or delete the limit")


def backends(config: Config) -> Iterator[Finding]:
    """Every place where servers run can be built; what is unsafe there is an error."""
    site = DaasHub(config=config)
    for word in site.backends:
        backend = site.backend(word)
        if getattr(backend, "allow_shared_uid", False):
            found = "allow_shared_uid is on: everybody can read everybody's files"
            yield Finding(
                "error", f"backend {word}", found, "remove LocalBackend.allow_shared_uid, run the hub as root"
            )
            continue
        if backend.name == "slurm":
            # Needs the extra slurm, which a hub without a cluster has not.
            from .doctor_slurm import hub_name, named_partitions, slurm

            yield hub_name(config, f"backend {word}")
            yield from slurm(backend, word, ASK_WITHIN_S, named_partitions(config, word))
            continue
        for enforces_limits, note in asyncio.run(asyncio.wait_for(_limits(backend), ASK_WITHIN_S)):
            if not enforces_limits:
                fix = "let the hub write cgroups (root, delegated v2 or v1), or set LocalBackend.require_limits"
                yield Finding("note", f"backend {word}", f"CPU and memory limits are not enforced. {note}", fix)
            else:
                yield Finding("ok", f"backend {word}", note or "ready")


async def _limits(backend: Backend) -> list[tuple[bool, str]]:
    """Whether limits hold there, and what is to be said. The local backend's own look would make cgroups."""
    if isinstance(backend, LocalBackend):
        place = cgroups.look()
        return [(place.enforces, place.reason)]
    return [(each.enforces_limits, each.note) for each in await backend.capacity()]


def clock() -> Iterator[Finding]:
    """Whether the kernel says that something keeps this machine's clock right (adjtimex(2))."""
    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        yield Finding("note", "clock", "cannot be asked here")
        return
    # struct timex: unsigned int modes, then long offset, freq, maxerror, esterror, and int status.
    status = struct.unpack_from("@I4li", timex.raw)[5]
    if status & STA_UNSYNC:
        fix = "run chrony or systemd-timesyncd: tokens, certificates and usage depend on the time"
        yield Finding("note", "clock", "nothing keeps it synchronised", fix)
    else:
        yield Finding("ok", "clock", "synchronised")
