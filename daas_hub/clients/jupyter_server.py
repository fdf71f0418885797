"""What a single-user server says about its use, asked directly and with its own token.

The token is the one that the server was started with: whoever answers there in its place learns nothing that the
server itself did not know (docs/decisions/0040). ``no_track_activity`` keeps our own questions out of its times.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.lifecycle import App, Kernel, Report

from .launch_names import LaunchResolver

MAX_BODY_BYTES = 4 << 20
"""A thousand kernels are half a megabyte; a user decides what her server answers, so it has a bound."""

ABSENT = object()
"""404, as against a ``null`` that somebody answers."""


class ServerClient:
    """Asks servers, at most ``max_clients`` requests at once, each within ``timeout_s`` seconds."""

    def __init__(self, *, timeout_s: float = 5.0, max_clients: int = 40, tls: Mapping[str, str] | None = None) -> None:
        self._timeout_s = timeout_s
        self._tls = dict(tls or {})
        self._http = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=max_clients, max_body_size=MAX_BODY_BYTES, resolver=LaunchResolver()
        )

    async def report(self, url: str, token: str, apps: Sequence[App] = ()) -> Report:
        """The report of the server at ``url`` (which ends with its prefix and a slash).

        Raises BackendUnavailable where any part of it cannot be had: a part alone could look idle.
        """
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                kernels, terminals, status, *used = await asyncio.gather(
                    self._get(url + "api/kernels", token),
                    self._get(url + "api/terminals", token),
                    self._get(url + "api/status", token),
                    *(self._get(url + app.path, token) for app in apps),
                )
            return Report(
                # Terminals can be switched off; a server without kernels' interface is none that can tell.
                kernels=tuple(_kernel(one) for one in _list(kernels)),
                terminals=tuple(_time(one["last_activity"]) for one in _list([] if terminals is ABSENT else terminals)),
                api_activity=_time(status["last_activity"]),
                apps=tuple(_time(one[app.field]) for one, app in zip(used, apps, strict=True) if one is not ABSENT),
            )
        except TimeoutError as error:
            raise BackendUnavailable("The server did not answer in time.") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError) as error:
            raise BackendUnavailable(f"The server's report makes no sense: {type(error).__name__}: {error}") from error

    async def _get(self, url: str, token: str) -> Any:
        """The JSON there; ABSENT where there is no such thing (no terminals, no such app)."""
        request = HTTPRequest(
            url + ("&" if "?" in url else "?") + "no_track_activity=1",
            headers={"Authorization": f"token {token}"},
            request_timeout=self._timeout_s,
            connect_timeout=self._timeout_s,
            # Another place must not be given the token.
            follow_redirects=False,
            **self._tls,  # type: ignore[arg-type]
        )
        try:
            answer = await self._http.fetch(request, raise_error=False)
        except Exception as error:
            raise BackendUnavailable(f"The server cannot be asked: {type(error).__name__}: {error}") from error
        if answer.code == HTTPStatus.NOT_FOUND:
            return ABSENT
        if answer.code != HTTPStatus.OK:
            raise BackendUnavailable(f"The server answers {answer.code} {answer.reason}.")
        return json.loads(answer.body)

    def close(self) -> None:
        """Drop the connections."""
        self._http.close()


def _list(value: Any) -> list[Any]:
    """The list that was asked for. Raises ValueError for anything else, also for an interface that is not there."""
    if not isinstance(value, list):
        raise ValueError(f"a list was asked for, not {type(value).__name__}")
    return value


def _kernel(value: Any) -> Kernel:
    return Kernel(state=str(value["execution_state"]), last_activity=_time(value["last_activity"]))


def _time(value: Any) -> datetime:
    """An ISO time with its zone, or seconds or milliseconds since 1970. Raises ValueError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    time = datetime.fromisoformat(str(value))
    if time.tzinfo is None:
        raise ValueError(f"{value!r} has no zone")
    return time.astimezone(UTC)
