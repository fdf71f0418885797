"""What our own services may ask the hub beyond JupyterHub's REST interface, under ``/hub/api/daas/``.

The hub alone has the service account of the directory and knows who its users signed in as (decision 0053).
"""

from __future__ import annotations

from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from sqlalchemy import func, select
from tornado import web

from daas_hub.core.errors import DaasError, NotFound
from daas_hub.services.console.registration import HUB_SCOPE
from daas_hub.spawners import people
from daas_hub.spawners.record import LaunchRecord
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.spawner import DaasSpawner

ACCOUNTS = r"/api/daas/accounts/([^/]+)"
GROUPS = r"/api/daas/groups"
GROUP = r"/api/daas/groups/([^/]+)"
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
        """200 with ``known`` and ``members``, sorted user names."""
        self.require_console()
        group = orm.Group.find(self.db, name)
        members = sorted(user.name for user in group.users) if group is not None else []
        self.finish({"known": group is not None, "members": members})


class GroupsKnown(HubSide):
    """``GET``: all groups that the hub has, with how many users are in each."""

    def get(self) -> None:
        """200 with ``groups``."""
        self.require_console()
        members = orm.user_group_map.c
        counted = (
            select(orm.Group.name, func.count(members.user_id)).select_from(orm.Group).outerjoin(orm.user_group_map)
        )
        rows = self.db.execute(counted.group_by(orm.Group.name))
        self.finish({"groups": {row[0]: row[1] for row in rows}})


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
    handlers = ((ACCOUNTS, AccountOfUser), (GROUPS, GroupsKnown), (GROUP, GroupKnown), (LOGS, LogOfLaunch))
    ours = [(path, handler, known) for path, handler in handlers]
    app.authenticator.get_handlers = lambda hub: [*theirs(hub), *ours]
