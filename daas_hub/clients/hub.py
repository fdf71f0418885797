"""The hub's REST interface, as our services use it: start a server, whose account a name is, what a server
prints. Nothing else is asked.

Errors are translated once, here: HubUnavailable. A refusal that concerns one server is an answer, not an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

from daas_hub.core.errors import HubUnavailable, InvalidOptions

MAX_BODY_BYTES = 1 << 20
"""Answers are far smaller; whatever sends more is not the hub."""


class Answer(StrEnum):
    """What the hub says about one server."""

    DONE = "done"
    """It runs, as was asked."""
    PENDING = "pending"
    """The hub is at it."""
    REFUSED = "refused"
    """Not now: it is in between, it runs already, a limit or a setting forbids it. The text says which."""
    NO_SUCH = "no_such"
    """The hub does not know the user or the server."""


_STARTED: Mapping[int, Answer] = {
    HTTPStatus.CREATED: Answer.DONE,
    HTTPStatus.ACCEPTED: Answer.PENDING,
    HTTPStatus.NOT_FOUND: Answer.NO_SUCH,
}


class HubClient:
    """One hub, one token. ``max_clients`` requests at once; more wait in here, and their time-out runs.

    ``tls`` are the files of internal_ssl: ``client_key``, ``client_cert``, ``ca_certs``.
    """

    def __init__(
        self,
        api_url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        max_clients: int = 20,
        tls: Mapping[str, str] | None = None,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._tls = dict(tls or {})
        self._http = AsyncHTTPClient(force_instance=True, max_clients=max_clients, max_body_size=MAX_BODY_BYTES)

    async def start_server(self, user: str, server: str) -> tuple[Answer, str]:
        """Ask for a server without options; the hub's text. Raises HubUnavailable."""
        path = f"/users/{quote(user, safe='')}/server" + (f"s/{quote(server, safe='')}" if server else "")
        answer = await self._post(path)
        if answer.code in _STARTED:
            return _STARTED[answer.code], ""
        return Answer.REFUSED, f"{answer.code} {self._refusal(path, answer)}".strip()

    async def account_id(self, user: str) -> str:
        """The id of a user's account, which the hub records now if she has never started a server.

        Raises InvalidOptions with the hub's reason where there is none, HubUnavailable.
        """
        path = f"/daas/accounts/{quote(user, safe='')}"
        answer = await self._post(path)
        if answer.code == HTTPStatus.OK:
            return str(json.loads(answer.body)["id"])
        text = self._refusal(path, answer)
        if answer.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HubUnavailable(text, retry_after_s=5)
        raise InvalidOptions(text, field="name")

    async def log_of(self, launch_id: str) -> str | None:
        """The last lines of what the server of a launch prints now; None where that cannot be told.

        Raises HubUnavailable.
        """
        path = f"/daas/launches/{quote(launch_id, safe='')}/log"
        answer = await self._ask("GET", path)
        if answer.code != HTTPStatus.OK:
            raise HubUnavailable(f"The hub does not tell the log: {answer.code} {self._refusal(path, answer)}")
        try:
            shown = json.loads(answer.body)["log"]
        except (ValueError, KeyError, TypeError) as error:
            raise HubUnavailable(f"The hub does not tell the log: {type(error).__name__}") from error
        return None if shown is None else str(shown)

    async def knows_group(self, name: str) -> bool:
        """True where the hub has a group of this name. Raises HubUnavailable."""
        return bool(await self._known(f"/daas/groups/{quote(name, safe='')}", "known"))

    async def groups(self) -> dict[str, int]:
        """Group → how many users the hub has in it. Raises HubUnavailable."""
        found = await self._known("/daas/groups", "groups")
        return {str(name): int(members) for name, members in found.items()}

    async def members(self, group: str) -> list[str]:
        """The users whom the hub has in a group, sorted; none where it knows no such group. Raises HubUnavailable."""
        found = await self._known(f"/daas/groups/{quote(group, safe='')}", "members")
        return [str(name) for name in found]

    async def _known(self, path: str, key: str) -> Any:
        answer = await self._ask("GET", path)
        if answer.code != HTTPStatus.OK:
            text = self._refusal(path, answer)
            raise HubUnavailable(f"The hub does not tell its groups: {answer.code} {text}", retry_after_s=5)
        try:
            return json.loads(answer.body)[key]
        except (ValueError, KeyError, TypeError) as error:
            raise HubUnavailable(f"The hub does not tell its groups: {type(error).__name__}") from error

    async def sweep(self, after: int) -> tuple[int | None, dict[str, int]]:
        """Let the hub look at the next people who have signed in, and act on what is said of them.

        Where to go on (None: that were all), and the counts so far. Raises HubUnavailable.
        """
        answer = await self._ask("POST", "/daas/sweep", json.dumps({"after": after}))
        if answer.code != HTTPStatus.OK:
            raise HubUnavailable(f"The hub does not sweep: {answer.code} {self._refusal('/daas/sweep', answer)}")
        try:
            said = json.loads(answer.body)
            return said.pop("next"), {str(name): int(count) for name, count in said.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HubUnavailable(f"The hub does not tell of its sweep: {type(error).__name__}") from error

    async def tell(self, path: str, **what: Any) -> None:
        """Tell the hub what the ledger has by now, such as ``/daas/links/unlinked``. Raises HubUnavailable."""
        answer = await self._ask("POST", path, json.dumps(what))
        if answer.code != HTTPStatus.NO_CONTENT:
            raise HubUnavailable(f"The hub was not told: {answer.code} {self._refusal(path, answer)}")

    async def banner(self, user: str) -> tuple[str, bool]:
        """What stands above the pages of a user now (empty: nothing), and whether she may only read them.

        Raises HubUnavailable.
        """
        path = f"/daas/users/{quote(user, safe='')}/banner"
        answer = await self._ask("GET", path)
        if answer.code != HTTPStatus.OK:
            raise HubUnavailable(f"The hub does not tell its banner: {answer.code} {self._refusal(path, answer)}")
        try:
            said = json.loads(answer.body)
            return str(said["text"]), said["read_only"] is True
        except (ValueError, KeyError, TypeError) as error:
            raise HubUnavailable(f"The hub does not tell its banner: {type(error).__name__}") from error

    def _refusal(self, path: str, answer: HTTPResponse) -> str:
        """The hub's text. Raises HubUnavailable where it is our token that is refused, and so everything."""
        text = self._text(answer)
        ours = answer.code == HTTPStatus.FORBIDDEN and ("scopes" in text or "credentials" in text)
        if ours or answer.code == HTTPStatus.UNAUTHORIZED:
            # 403 is also how a start is refused to a person.
            raise HubUnavailable(
                f"The hub refuses {answer.request.method} {path}: {answer.code} {text}", reason="hub_refuses"
            )
        return text

    async def _post(self, path: str) -> HTTPResponse:
        return await self._ask("POST", path, "{}")

    async def _ask(self, method: str, path: str, body: str | None = None) -> HTTPResponse:
        request = HTTPRequest(
            self._api_url + path,
            method=method,
            body=body,
            headers={"Authorization": f"token {self._token}", "Content-Type": "application/json"},
            request_timeout=self._timeout_s,
            connect_timeout=min(5.0, self._timeout_s),
            follow_redirects=False,
            **self._tls,  # type: ignore[arg-type]
        )
        try:
            return await self._http.fetch(request, raise_error=False)
        except Exception as error:
            # Whatever goes wrong on the way (DNS, TLS, HTTP) is the same for our callers.
            raise HubUnavailable(f"The hub cannot be asked: {type(error).__name__}: {error}") from error

    def _text(self, answer: HTTPResponse) -> str:
        if answer.code == HTTP_TIMED_OUT:
            raise HubUnavailable(f"The hub cannot be asked: {answer.error}")
        try:
            body: Any = json.loads(answer.body or b"")
            return str(body["message"])[:500]
        except (ValueError, KeyError, TypeError):
            return str(answer.reason)

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()


HTTP_TIMED_OUT = 599
"""tornado's code for a request without an answer: no connection, or none in time."""
