"""Websockets of tests, ended with their connection: tornado waits 5 s for a farewell, the loop of a test does not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect


@asynccontextmanager
async def websocket(url: str, headers: dict[str, str] | None = None) -> AsyncIterator[WebSocketClientConnection]:
    """A connected one. Raises HTTPClientError where it is refused."""
    # As urllib does: tornado has read the system's authorities when it was imported.
    authorities = os.environ.get("SSL_CERT_FILE")
    request = HTTPRequest(url, headers=headers or {}, connect_timeout=10, ca_certs=authorities)
    socket = await websocket_connect(request)
    try:
        yield socket
    finally:
        hang_up(socket)


def hang_up(socket: WebSocketClientConnection) -> None:
    """End it from here, the connection as well."""
    stream = socket.protocol.stream if socket.protocol is not None else None
    socket.close()
    if stream is not None:
        stream.close()
