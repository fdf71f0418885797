"""What the hub must know about the console: its service, its scopes, who gets them. `configure(c)` puts it in place."""

from __future__ import annotations

import socket
import sys
from typing import Any

from jupyterhub import orm

from daas_hub.services.settings import HUB_SCOPE

from .access import ADMIN_UI, CUSTOM_SCOPES

NAME = "daas"
PREFIX = f"/services/{NAME}/"

USER_SCOPES = (
    # Everybody sees her own usage; what the page shows beyond that is decided by the custom scopes.
    f"access:services!service={NAME}",
)
"""What every user gets, by ``c.JupyterHub.extra_user_scopes``."""


def console_service(*, port: int | None = None, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The managed service's definition for ``c.JupyterHub.services``.

    ``port``: TCP port on the loopback interface; None picks a free one at each start of the hub, so that two hubs
    on one machine do not meet.
    """
    return {
        "name": NAME,
        "url": f"http://127.0.0.1:{port or _free_port()}",
        "command": [sys.executable, "-m", "daas_hub.services.console"],
        "environment": dict(environment or {}),
        # Part of the hub: asking "may the console know who you are?" would only teach people to click yes.
        "oauth_no_confirm": True,
        # A person's cookie carries these as far as she holds them herself; nothing else of the hub. ADMIN_UI only
        # tells whether to show the link to the hub's admin panel.
        "oauth_client_allowed_scopes": [*CUSTOM_SCOPES, ADMIN_UI],
        # The link "My usage" stands in the navigation bar; the menu "Services" would show the bare id.
        "display": False,
        "info": {"label": "My usage"},
    }


def console_roles() -> list[dict[str, Any]]:
    """Roles for ``c.JupyterHub.load_roles``. Who a token is, a service may always ask; one thing more the console
    asks the hub (decision 0053). Administrators: see grant_to_administrators."""
    role = {"name": NAME, "description": "The least that the console needs", "services": [NAME], "scopes": [HUB_SCOPE]}
    return [role]


def grant_to_administrators(app: Any) -> None:
    """Give the hub's own role ``admin`` our custom scopes, once, while the hub starts (docs/decisions/0050).

    Whoever is or becomes an administrator by any way of the hub has them, and loses them with it. JupyterHub
    refuses an ``admin`` role in ``load_roles`` with other scopes and writes its own list back at each start.
    """
    role = orm.Role.find(app.db, "admin")
    if role is not None and not set(CUSTOM_SCOPES) <= set(role.scopes):
        role.scopes = sorted({*role.scopes, *CUSTOM_SCOPES})
        app.db.commit()


def plain_custom_scopes() -> dict[str, dict[str, Any]]:
    """CUSTOM_SCOPES and HUB_SCOPE in the form of ``c.JupyterHub.custom_scopes``."""
    ours = {name: dict(definition) for name, definition in CUSTOM_SCOPES.items()}
    return {**ours, HUB_SCOPE: {"description": "Ask the hub what only it knows (for our services themselves)"}}


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port
