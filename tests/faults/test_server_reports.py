"""What a user's own server may answer when it is asked about its use: anything. Only a whole report counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from daas_hub.clients.jupyter_server import ServerClient
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.lifecycle import App, Kernel, Report

TOKEN = "the-server's-own"
AT = "2026-03-01T12:00:00.000000Z"
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "/user/ada/api/kernels": [{"id": "1", "execution_state": "busy", "last_activity": AT, "connections": 1}],
    "/user/ada/api/terminals": [{"name": "1", "last_activity": AT}],
    "/user/ada/api/status": {"last_activity": AT, "kernels": 1},
    "/user/ada/code/healthz": {"lastHeartbeat": 1772366400000},
}
CODE = App("code/healthz", "lastHeartbeat")


@asynccontextmanager
async def server(replies: dict[str, Any]) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that answers JSON, a status (int), or by a function; its URL and what it was asked."""
    asked: list[Any] = []

    class Handler(RequestHandler):
        async def get(self) -> None:
            asked.append(self.request)
            reply = replies.get(self.request.path, 404)
            if callable(reply):
                await reply(self)
            elif isinstance(reply, int):
                self.set_status(reply)
            else:
                self.write(json.dumps(reply))

    socket, port = bind_unused_port()
    http = HTTPServer(Application([(r".*", Handler)]))
    http.add_socket(socket)
    try:
        yield f"http://127.0.0.1:{port}/user/ada/", asked
    finally:
        http.stop()
        await http.close_all_connections()


async def ask(replies: dict[str, Any], *apps: App) -> Report:
    client = ServerClient(timeout_s=0.5)
    try:
        async with server(replies) as (url, _):
            return await client.report(url, TOKEN, apps)
    finally:
        client.close()


async def test_a_whole_report() -> None:
    assert await ask(GOOD, CODE) == Report((Kernel("busy", TIME),), (TIME,), TIME, (TIME,))


async def test_our_questions_are_no_activity_and_carry_the_servers_own_token() -> None:
    client = ServerClient()
    async with server(GOOD) as (url, asked):
        await client.report(url, TOKEN, [CODE])
        assert len(asked) == 4
        for request in asked:
            assert request.query == "no_track_activity=1"
            assert request.headers["Authorization"] == f"token {TOKEN}"
    client.close()


async def test_terminals_that_are_switched_off_and_an_app_that_was_never_opened() -> None:
    replies = {**GOOD, "/user/ada/api/terminals": 404, "/user/ada/code/healthz": 404}
    assert await ask(replies, CODE) == Report((Kernel("busy", TIME),), (), TIME, ())


async def hang(handler: RequestHandler) -> None:
    await asyncio.sleep(2)


async def huge(handler: RequestHandler) -> None:
    handler.write(b"[" + b" " * (5 << 20) + b"]")


async def deep(handler: RequestHandler) -> None:
    handler.write(b"[" * 200_000)


@pytest.mark.parametrize("path", ["api/kernels", "api/terminals", "api/status", "code/healthz"])
@pytest.mark.parametrize(
    "reply",
    [
        500,
        403,
        302,
        "text",
        None,
        {"a": 1},
        [1],
        [{}],
        [{"execution_state": "idle", "last_activity": "yesterday"}],
        [{"execution_state": "idle", "last_activity": "2026-03-01T12:00:00"}],
        {"last_activity": 1e308, "lastHeartbeat": 1e308},
        {"last_activity": True, "lastHeartbeat": float("nan")},
        hang,
        huge,
        deep,
    ],
    ids=lambda reply: getattr(reply, "__name__", str(reply)),
)
async def test_anything_else_is_unknown(path: str, reply: Any) -> None:
    with pytest.raises(BackendUnavailable):
        async with asyncio.timeout(5):
            await ask({**GOOD, f"/user/ada/{path}": reply}, CODE)


async def test_a_server_without_kernels_interface_is_unknown() -> None:
    with pytest.raises(BackendUnavailable):
        await ask({**GOOD, "/user/ada/api/kernels": 404})


async def test_the_token_does_not_follow_a_redirect() -> None:
    async with server(GOOD) as (other, asked):

        async def away(handler: RequestHandler) -> None:
            handler.redirect(other + "api/kernels")

        with pytest.raises(BackendUnavailable, match="302"):
            await ask({**GOOD, "/user/ada/api/kernels": away})
        assert asked == []


async def test_a_server_that_is_gone_is_unknown() -> None:
    client = ServerClient(timeout_s=0.5)
    socket, port = bind_unused_port()
    socket.close()
    with pytest.raises(BackendUnavailable, match=r"cannot be asked|599"):
        await client.report(f"http://127.0.0.1:{port}/", TOKEN)
    client.close()
