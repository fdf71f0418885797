"""Kernels of a real single-user server, used as a tab does: REST and one websocket."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from tests.servers.hub import http_call
from tests.servers.websockets import websocket


class ServerApi:
    """One server at ``url``: its own address, or the one before the proxy. ``token`` is one that may.

    ``host``: what a browser would call the hub, where that is another name than the one in ``url``.
    """

    def __init__(self, url: str, token: str, *, host: str = "") -> None:
        self._url = url
        self._headers = {"Authorization": f"token {token}", **({"Host": host} if host else {})}

    async def get(self, path: str) -> Any:
        """The JSON at a path below the server."""
        status, answer = await asyncio.to_thread(http_call, "GET", self._url + path, None, self._headers)
        assert status == 200, (path, status, answer)
        return answer

    async def without_token(self, path: str) -> tuple[int, int]:
        """What a stranger gets at a path below the server: the status of a page, and that of a websocket."""
        page = await AsyncHTTPClient().fetch(self._url + path, follow_redirects=False, raise_error=False)
        try:
            async with websocket(self._url.replace("http", "ws", 1) + path):
                return page.code, 101
        except HTTPClientError as error:
            return page.code, error.code

    async def new_kernel(self, name: str = "python3") -> str:
        """Start a kernel and return its id."""
        body = {"name": name}
        status, kernel = await asyncio.to_thread(http_call, "POST", self._url + "api/kernels", body, self._headers)
        assert status == 201, kernel
        return str(kernel["id"])

    async def run(self, kernel: str, code: str, *, finish: bool = True, within_s: float = 30) -> str:
        """Send a cell and return what it printed, an error's traceback too. The socket is then closed.

        With ``finish`` it waits for the cell's end, else only until the kernel is busy.
        """
        url = f"{self._url}api/kernels/{kernel}/channels".replace("http", "ws", 1)
        message = {"header": header("execute_request"), "parent_header": {}, "metadata": {}, "channel": "shell"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        printed, ends = "", {"execute_reply", "idle"} if finish else {"busy"}
        async with websocket(url, self._headers) as socket, asyncio.timeout(within_s):
            await socket.write_message(json.dumps(message | {"content": content, "buffers": []}))
            while ends:
                raw = await socket.read_message()
                assert raw is not None, "the kernel's socket was closed"
                said = json.loads(raw)
                kind, content = said["header"]["msg_type"], said["content"]
                if said["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                    continue
                if kind == "stream":
                    printed += content["text"]
                elif kind == "error":
                    printed += "\n".join(content["traceback"])
                ends.discard(content["execution_state"] if kind == "status" else kind)
        return printed


def header(kind: str) -> dict[str, Any]:
    """The header of a message to a kernel."""
    return {
        "msg_id": uuid.uuid4().hex,
        "username": "test",
        "session": uuid.uuid4().hex,
        "msg_type": kind,
        "version": "5.3",
    }
