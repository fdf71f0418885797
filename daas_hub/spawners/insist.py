"""A hub that names our spawner is checked when it starts, also where its configuration never calls ``configure(c)``."""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub

CHECKS = "daas_hub.wiring.startup.StartupChecks"
"""An extension of the hub's template environment (docs/decisions/0002), which imports it by this name."""


def insist(ours: type[Any]) -> None:
    """Let the hub of this process run our checks if its spawner is a class of ``ours``.

    Called where ``ours`` is defined, which may be before the hub object exists. Every hub meets its first role after
    it has read its settings and before it builds its templates: there the checks are hung up.
    """
    for event in ("init", "load"):
        orm.event.listen(orm.Role, event, lambda *_: _hang(ours), once=True)


def _hang(ours: type[Any]) -> None:
    if not JupyterHub.initialized():
        return
    app = JupyterHub.instance()
    options = app.jinja_environment_options
    extensions = options.get("extensions", [])
    if issubclass(app.spawner_class, ours) and CHECKS not in extensions:
        app.jinja_environment_options = {**options, "extensions": [*extensions, CHECKS]}
