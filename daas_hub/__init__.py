"""daas_hub: JupyterHub as data analysis as a service.

``configure(c)`` in ``jupyterhub_config.py`` wires everything; what the operator sets stays.
"""

from __future__ import annotations

from typing import Any

from .core.version import VERSION

__version__ = VERSION
__all__ = ["__version__", "configure"]


def configure(c: Any, **overrides: Any) -> None:
    """Set up a hub with daas_hub: spawner, services, roles, pages and the settings that daas_hub owns.

    ``c`` is the config object of ``jupyterhub_config.py``. ``overrides`` are written as ``Class__trait=value``
    and are set last. Values that are already set are kept, and values that are set after the call replace ours.
    Services, roles, custom scopes, extra scopes of users and extensions of templates are joined with the operator's,
    whether those are set before or after the call. Calling it twice changes nothing. Raises ConfigError for an
    override that is not of that form.
    """
    from .wiring.configuration import apply

    apply(c, overrides)
