"""Whether a JupyterHub server answers on a node."""

from __future__ import annotations

import asyncio
import ssl

HEADER = b"x-jupyterhub-version:"
ENOUGH_BYTES = 64 * 1024


async def answers(host: str, port: int, path: str, *, tls: ssl.SSLContext | None = None, within_s: float = 2.0) -> bool:
    """Whether something there answers below 500 as a JupyterHub server does; never raises.

    On a node that is shared anybody may listen on a port: only TLS (``tls``: with the hub's certificate and
    host-name check) tells who it is. Nothing secret is in the question.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _asked(host, port, path, tls)
    except (OSError, ValueError, TimeoutError, EOFError, asyncio.LimitOverrunError):
        return False


async def _asked(host: str, port: int, path: str, tls: ssl.SSLContext | None) -> bool:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=ENOUGH_BYTES)
    try:
        name = f"[{host}]" if ":" in host else host
        request = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    status, *headers = head.split(b"\r\n")
    if not status.startswith(b"HTTP/1.") or int(status.split(b" ")[1]) >= 500:
        return False
    return any(line.lower().startswith(HEADER) for line in headers)
