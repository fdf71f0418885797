"""``POST /hub/api/daas/ready-mail/<user>/<server>``: whether she wants a mail when the start that goes on is over."""

from __future__ import annotations

from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from daas_hub.core.errors import DaasError, InvalidOptions, NotFound
from daas_hub.core.turns import MAIL_FIELD
from daas_hub.spawners import ready_mail

READY_MAIL = r"/api/daas/ready-mail/([^/]+)/?([^/]*)"


class ReadyMail(APIHandler):
    """``{"mail_when_ready": true}`` or ``false``; for whoever may start that server."""

    @needs_scope("start:servers")
    async def post(self, user_name: str, server_name: str) -> None:
        """200; 400 with who can change it where there is no mail; 404 where no start of that server goes on."""
        wished = (self.get_json_body() or {}).get(MAIL_FIELD)
        try:
            spawner = self._pending(user_name, server_name)
            if wished is None:
                raise InvalidOptions(f"{MAIL_FIELD}: true or false is needed.", field=MAIL_FIELD)
            if not await spawner.wish_mail(bool(ready_mail.judged(spawner, wished))):
                raise _none()
        except DaasError as error:
            self.set_status(error.status)
            self.finish({"status": error.status, "reason": error.reason, "message": error.message})
            return
        self.finish({MAIL_FIELD: wished})

    def _pending(self, user_name: str, server_name: str) -> Any:
        user = self.find_user(user_name)
        if user is None:
            raise web.HTTPError(404, "There is no such user.")
        spawner = user.spawners.get(server_name)
        if spawner is None or spawner.pending != "spawn":
            raise _none()
        return spawner


def _none() -> NotFound:
    return NotFound("No start of this server goes on.")
