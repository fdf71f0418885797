"""The hub's REST interface as ``daas-hub adopt`` uses it: users made again, with who they signed in as.

The one place that needs the scope ``admin:users``; no service of ours has it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPResponse

from daas_hub.core.errors import HubUnavailable
from daas_hub.core.models import Json

from .hub import HubClient

PAGE = 200
NEEDED = "admin:users, servers"


class HubPeople(HubClient):
    """A hub that is asked with an operator's token."""

    async def up(self) -> bool:
        """Whether the hub answers; what it answers is no matter."""
        try:
            return (await self._ask("GET", "/", None)).code == HTTPStatus.OK
        except HubUnavailable:
            return False

    async def users(self) -> dict[str, Json]:
        """Every user by name, as the hub has it. Raises HubUnavailable."""
        found: dict[str, Json] = {}
        while True:
            page = self._read("users", await self._ask("GET", f"/users?offset={len(found)}&limit={PAGE}", None))
            found |= {user["name"]: user for user in page}
            if len(page) < PAGE:
                return found

    async def make_users(self, names: Sequence[str]) -> None:
        """Make users that are not there. Raises HubUnavailable with the hub's words."""
        for start in range(0, len(names), PAGE):
            body = json.dumps({"usernames": list(names[start : start + PAGE])})
            answer = await self._ask("POST", "/users", body)
            if answer.code != HTTPStatus.CONFLICT:
                self._read("users", answer)

    async def remember(self, user: str, identity: Json) -> None:
        """Say who this user is, as her sign-in would have; the hub asks the directory for the rest."""
        body = json.dumps({"auth_state": {"daas": {"version": 1, "identity": identity}}})
        self._read(user, await self._ask("PATCH", f"/users/{quote(user, safe='')}", body))

    async def server(self, user: str, server: str) -> Json | None:
        """The hub's model of a server that it has."""
        answer = await self._ask("GET", f"/users/{quote(user, safe='')}", None)
        if answer.code == HTTPStatus.NOT_FOUND:
            return None
        found: Json | None = self._read(user, answer).get("servers", {}).get(server)
        return found

    def _read(self, what: str, answer: HTTPResponse) -> Any:
        if answer.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise HubUnavailable(
                f"The hub refuses the token ({answer.code}): it needs the scopes {NEEDED}.", reason="hub_refuses"
            )
        if not 200 <= answer.code < 300:
            raise HubUnavailable(f"The hub refuses {what}: {answer.code} {self._text(answer)}", reason="hub_refuses")
        return json.loads(answer.body)
