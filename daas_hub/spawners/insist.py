"""A hub that names our spawner is checked when it starts, also where its configuration never calls ``configure(c)``."""

from __future__ import annotations

from typing import Any

from jupyterhub.app import JupyterHub

CHECKS = "daas_hub.wiring.startup.StartupChecks"
"""An extension of the hub's template environment (docs/decisions/0002), which imports it by this name."""


def insist(ours: type[Any]) -> None:
    """Let the hub of this process run our checks if its spawner is a class of ``ours``, whoever sets what when.

    Called where ``ours`` is defined: the hub resolves its spawner's name before it builds anything.
    """
    if not JupyterHub.initialized():
        return
    app = JupyterHub.instance()

    def ensure(_change: Any = None) -> None:
        options = app.jinja_environment_options
        extensions = options.get("extensions", [])
        if issubclass(app.spawner_class, ours) and CHECKS not in extensions:
            app.jinja_environment_options = {**options, "extensions": [*extensions, CHECKS]}

    app.observe(ensure, names=["spawner_class", "jinja_environment_options"])
