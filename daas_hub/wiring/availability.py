"""``GET /hub/daas/availability/<user>``: what the badges on the spawn page say now, for who may see that page.

A small fragment that htmx puts in place. It costs no question of its own: it tells of the looks that everybody shares.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers import BaseHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from daas_hub.core.availability import news, states, told
from daas_hub.core.errors import DaasError
from daas_hub.spawners import available
from daas_hub.spawners.admission import Admission

AVAILABILITY = r"/daas/availability/([^/]+)"


class Availability(BaseHandler):
    """By the person's own session, as the page itself."""

    @needs_scope("servers")
    async def get(self, user_name: str) -> None:
        """200 with what changed since ``seen``; 204 where nothing did; 404 where there is no such user."""
        user = self.find_user(user_name)
        if user is None:
            raise web.HTTPError(404, f"There is no user {user_name}.")
        self.set_header("Cache-Control", "no-store")
        seen = self.get_query_argument("seen", "")
        try:
            shown = await available.badges(Admission(user.spawner))
        except DaasError as error:
            self.log.warning("What has room is not told: %s", error.log_message)
            shown = []
        if not shown or told(shown) == seen:
            self.set_status(204)
            self.finish()
            return
        self.finish(available.fragment(shown, self.request.path, news(shown, states(seen))))

    def write_error(self, status_code: int, **_why: Any) -> None:
        """Short: it is no page."""
        self.set_status(status_code)
        self.finish()


def add(app: Any) -> None:
    """Serve it beside the hub's own pages."""
    theirs = app.authenticator.get_handlers
    app.authenticator.get_handlers = lambda hub: [*theirs(hub), (AVAILABILITY, Availability)]
