"""What our own services may ask the hub beyond JupyterHub's REST interface, under ``/hub/api/daas/``.

The hub alone has the service account of the directory and knows who its users signed in as (decision 0053).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import needs_scope
from sqlalchemy import func, select
from tornado import web

from daas_hub.core.errors import DaasError, NotFound
from daas_hub.services.settings import HUB_SCOPE
from daas_hub.spawners import people
from daas_hub.spawners.record import LaunchRecord
from daas_hub.spawners.runtime import DaasHub, utcnow
from daas_hub.spawners.spawner import DaasSpawner

from .claim import CLAIM, Bounds, ClaimOfJob
from .claimed import LOG, TOKENS, LogOfJob, TokensOfJob
from .ending import Ending
from .ready_mail import READY_MAIL, ReadyMail
from .report import REPORT, PortReport
from .sweep import Sweep, banner, read_only

ACCOUNTS = r"/api/daas/accounts/([^/]+)"
GROUPS = r"/api/daas/groups"
GROUP = r"/api/daas/groups/([^/]+)"
LOGS = r"/api/daas/launches/([^/]+)/log"
SWEEP = r"/api/daas/sweep"
BELIEVED = r"/api/daas/sweep/believed"
ENDS = r"/api/daas/users/([^/]+)/end_sessions"
BANNERS = r"/api/daas/users/([^/]+)/banner"
MAX_WHY = 200
OF_JOBS = ((CLAIM, ClaimOfJob), (TOKENS, TokensOfJob), (LOG, LogOfJob))


class HubSide(APIHandler):
    """The base of them all: for our services' own tokens only."""

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


class SweepPage(HubSide):
    """``POST`` with ``after``: look at the next people and act on what their directory or provider says of them."""

    def initialize(self, site: DaasHub, settings: DaasSpawner, sweep: Sweep) -> None:  # type: ignore[override]
        """With the hub's one sweep."""
        super().initialize(site, settings)
        self.sweep = sweep

    async def post(self) -> None:
        """200 with ``next`` (null: that were all) and the counts of this sweep so far."""
        self.require_console()
        after = (self.get_json_body() or {}).get("after", 0)
        if not isinstance(after, int):
            raise web.HTTPError(400, "after is the number that the page before gave, or 0.")
        following, counts = await self.sweep.page(self, after)
        self.finish({"next": following, **asdict(counts)})


class SweepBelieved(APIHandler):
    """``POST``: an administrator says that the many people who seem to have left have: the next sweep ends them."""

    def initialize(self, site: DaasHub, sweep: Sweep) -> None:
        """With the hub's one sweep."""
        self.site, self.sweep = site, sweep

    @needs_scope("admin:users")
    async def post(self) -> None:
        """204."""
        who = f"{self.current_user.kind}:{self.current_user.name}"
        await self.site.run(self.site.ledger.audit.append, utcnow(), who, "believe_sweep", "sweep")
        self.sweep.believe = True
        self.set_status(204)
        self.finish()


class EndOfUser(HubSide):
    """``POST`` with ``why``: end the sessions, tokens and servers of a user now. Homes are kept."""

    async def post(self, name: str) -> None:
        """204; 404 for a name that the hub does not know."""
        self.require_console()
        user = self.find_user(name)
        if user is None:
            raise web.HTTPError(404, f"There is no user {name}.")
        why = str((self.get_json_body() or {}).get("why") or "an administrator ended your access")[:MAX_WHY]
        await self.authenticator.end_access(self, user, why=why, by="service")
        self.set_status(204)
        self.finish()


class BannerOfUser(HubSide):
    """``GET``: what stands above the pages of a user, because her directory cannot be asked."""

    def get(self, name: str) -> None:
        """200 with ``text``, empty where there is nothing to say, and ``read_only``."""
        self.require_console()
        user = self.find_user(name)
        self.finish({"text": banner(user), "read_only": read_only(user)})


def add(app: Any, site: DaasHub) -> None:
    """Serve it; the hub asks its authenticator for further handlers after it has read its settings."""
    theirs = app.authenticator.get_handlers
    settings = app.spawner_class(config=app.config)
    known = {"site": site, "settings": settings}
    app.authenticator.end_access = ending = Ending(site)
    sweep = Sweep(site, settings, ending)
    bounds = Bounds()
    sweeping = {**known, "sweep": sweep}
    ours = [
        (ACCOUNTS, AccountOfUser, known),
        (GROUPS, GroupsKnown, known),
        (GROUP, GroupKnown, known),
        (LOGS, LogOfLaunch, known),
        (SWEEP, SweepPage, sweeping),
        (BELIEVED, SweepBelieved, {"site": site, "sweep": sweep}),
        (ENDS, EndOfUser, known),
        (BANNERS, BannerOfUser, known),
        (REPORT, PortReport, {"site": site}),
        (READY_MAIL, ReadyMail),
        *((route, handler, {"site": site, "bounds": bounds}) for route, handler in OF_JOBS),
    ]
    app.authenticator.get_handlers = lambda hub: [*theirs(hub), *ours]
