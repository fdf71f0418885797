"""What our own services may ask the hub beyond JupyterHub's REST interface, under ``/hub/api/daas/``.

The hub alone has the service account of the directory and knows who its users signed in as (decision 0053).
"""

from __future__ import annotations

from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from daas_hub.core.errors import DaasError
from daas_hub.services.console.registration import HUB_SCOPE
from daas_hub.spawners import people
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

ACCOUNTS = r"/api/daas/accounts/([^/]+)"


class AccountOfUser(APIHandler):
    """``POST``: the account of a user, recorded now if she has never started a server. Never touches a server."""

    def initialize(self, site: DaasHub, settings: DaasSpawner) -> None:
        """What the wiring knows."""
        self.site, self.spawner_settings = site, settings

    async def post(self, name: str) -> None:
        """200 with ``id`` and ``user_name``; else the status and message of what refuses."""
        if self.current_user is None:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        if not self.has_scope(HUB_SCOPE):
            raise web.HTTPError(403, f"Action is not authorized with current scopes; requires {HUB_SCOPE}.")
        try:
            row = await people.find(self.site, self.spawner_settings, self.authenticator, name, self.find_user(name))
        except DaasError as error:
            self.log.warning("No account for %s: %s", name, error.log_message)
            self.set_status(error.status)
            self.finish({"status": error.status, "reason": error.reason, "message": error.message})
            return
        self.finish({"id": row.id, "user_name": row.user_name})


def add(app: Any, site: DaasHub) -> None:
    """Serve it; the hub asks its authenticator for further handlers after it has read its settings."""
    theirs = app.authenticator.get_handlers
    settings = app.spawner_class(config=app.config)
    ours = [(ACCOUNTS, AccountOfUser, {"site": site, "settings": settings})]
    app.authenticator.get_handlers = lambda hub: [*theirs(hub), *ours]
