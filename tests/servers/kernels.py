"""Kernels of a real single-user server, used as a tab does: REST and one websocket."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.servers.hub import http_call


class ServerApi:
    """One server at ``url``: its own address, or the one before the proxy. ``token`` is one that may."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"token {token}"}

    async def get(self, path: str) -> Any:
        """The JSON at a path below the server."""
        status, answer = await asyncio.to_thread(http_call, "GET", self._url + path, None, self._headers)
        assert status == 200, (path, status, answer)
        return answer

    async def new_kernel(self) -> str:
        """Start a Python kernel and wait until it is idle; its id."""
        body = {"name": "python3"}
        status, kernel = await asyncio.to_thread(http_call, "POST", self._url + "api/kernels", body, self._headers)
        assert status == 201, kernel
        return str(kernel["id"])

    async def run(self, kernel: str, code: str, *, finish: bool = True) -> None:
        """Send a cell; with ``finish`` wait for its reply, else only until it is busy. The socket is then closed."""
        url = f"{self._url}api/kernels/{kernel}/channels".replace("http", "ws", 1)
        socket = await websocket_connect(HTTPRequest(url, headers=self._headers, connect_timeout=10))
        message = {"header": header("execute_request"), "parent_header": {}, "metadata": {}, "channel": "shell"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        await socket.write_message(json.dumps(message | {"content": content, "buffers": []}))
        async with asyncio.timeout(30):
            while True:
                raw = await socket.read_message()
                assert raw is not None, "the kernel's socket was closed"
                said = json.loads(raw)
                kind, content = said["header"]["msg_type"], said["content"]
                if said["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                    continue
                if kind == "execute_reply" or (
                    not finish and kind == "status" and content["execution_state"] == "busy"
                ):
                    break
        socket.close()


def header(kind: str) -> dict[str, Any]:
    """The header of a message to a kernel."""
    return {
        "msg_id": uuid.uuid4().hex,
        "username": "test",
        "session": uuid.uuid4().hex,
        "msg_type": kind,
        "version": "5.3",
    }
