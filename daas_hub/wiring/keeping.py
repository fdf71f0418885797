"""What ``configure(c)`` adds to JupyterHub's lists and dicts, kept there also where the operator sets them later.

The operator's file is read from top to bottom, so ``c.JupyterHub.services = […]`` below ``configure(c)`` replaces the
list that we added to. The hub object exists by then and gets the settings once the whole file is read: it is watched,
and what is ours is added again to what it then has.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets.config import Config

from daas_hub.spawners.insist import CHECKS

from . import console, services

SHARED = ("services", "load_roles", "custom_scopes", "extra_user_scopes", "jinja_environment_options")
"""Traits of JupyterHub that hold parts of the operator's and parts of ours."""


def add(c: Any) -> None:
    """Add our parts to a config; what is there already stays."""
    extensions = c.JupyterHub.setdefault("jinja_environment_options", {}).setdefault("extensions", [])
    append(extensions, [CHECKS])
    console.apply(c, append)
    services.apply(c, append, console.there)


def append(to: list[Any], items: list[Any], *, key: str | None = None) -> None:
    """Append what is not there yet; dicts are the same when their ``key`` is."""
    there = [item.get(key) if key else item for item in to]
    to.extend(item for item in items if (item.get(key) if key else item) not in there)


def keep() -> None:
    """Watch the hub of this process, if there is one: whatever these traits become, our parts are in them."""
    if not JupyterHub.initialized():
        return
    app = JupyterHub.instance()

    def again(_change: Any = None) -> None:
        c = Config()
        for name in SHARED:
            c.JupyterHub[name] = deepcopy(getattr(app, name))
        add(c)
        for name in SHARED:
            setattr(app, name, c.JupyterHub[name])

    # At once as well: an empty list that is set later is a change only where there was something before.
    again()
    app.observe(again, names=list(SHARED))
