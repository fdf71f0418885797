"""daas_hub: JupyterHub as data analysis as a service.

``configure(c)`` in ``jupyterhub_config.py`` wires everything; what the operator sets, before or after, stays.
"""

from __future__ import annotations

from typing import Any

from .core.version import VERSION

__version__ = VERSION
__all__ = ["__version__", "configure"]


def configure(c: Any, **overrides: Any) -> None:
    """Set up a hub with daas_hub: spawner, services, roles, pages and the settings that daas_hub owns.

    ``c`` is the config object of ``jupyterhub_config.py``. ``overrides`` are written as ``Class__trait=value``
    and are set last. Calling it twice changes nothing; lists are appended to, hooks and values that are already
    set are kept. Raises ConfigError for an override that is not of that form.
    """
    from .wiring.configuration import apply

    apply(c, overrides)
