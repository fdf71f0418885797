"""What our own services may ask the hub beyond JupyterHub's REST interface, under ``/hub/api/daas/``.

The hub alone has the service account of the directory and knows who its users signed in as (decision 0053).
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from daas_hub.core.errors import DaasError, NotFound
from daas_hub.services.console.registration import HUB_SCOPE
from daas_hub.spawners import people
from daas_hub.spawners.record import LaunchRecord
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

ACCOUNTS = r"/api/daas/accounts/([^/]+)"
GROUPS = r"/api/daas/groups/([^/]+)"
LOGS = r"/api/daas/launches/([^/]+)/log"


class HubSide(APIHandler):
    """The base of them all: for the console's own token only."""

    def initialize(self, site: DaasHub, settings: DaasSpawner) -> None:
        """What the wiring knows."""
        self.site, self.spawner_settings = site, settings

    def require_console(self) -> None:
        """Raise 403 for every other token."""
        if self.current_user is None:
            raise web.HTTPError(403, "Missing or invalid credentials.")
        if not self.has_scope(HUB_SCOPE):
            raise web.HTTPError(403, f"Action is not authorized with current scopes; requires {HUB_SCOPE}.")


class LogOfLaunch(HubSide):
    """``GET``: the last lines of what a server prints, asked of its backend now. Changes nothing."""

    async def get(self, launch_id: str) -> None:
        """200 with ``log``, null where it cannot be told; 404 where there is no such launch."""
        self.require_console()
        try:
            record = LaunchRecord(self.site, launch_id, self.log)
            row = await record.row()
            if row is None:
                raise NotFound("There is no such launch.")
            self.finish({"log": await record.log_now(row)})
        except DaasError as error:
            self.set_status(error.status)
            self.finish({"status": error.status, "reason": error.reason, "message": error.message})


class GroupKnown(HubSide):
    """``GET``: is there a group of this name? Groups of the directory are known once a member has signed in."""

    def get(self, name: str) -> None:
        """200 with ``known``."""
        self.require_console()
        self.finish({"known": orm.Group.find(self.db, name) is not None})


class AccountOfUser(HubSide):
    """``POST``: the account of a user, recorded now if she has never started a server. Never touches a server."""

    async def post(self, name: str) -> None:
        """200 with ``id`` and ``user_name``; else the status and message of what refuses."""
        self.require_console()
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
    known = {"site": site, "settings": settings}
    ours = [(ACCOUNTS, AccountOfUser, known), (GROUPS, GroupKnown, known), (LOGS, LogOfLaunch, known)]
    app.authenticator.get_handlers = lambda hub: [*theirs(hub), *ours]
