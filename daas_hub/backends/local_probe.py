"""Free ports, and whether the right process answers on one."""

from __future__ import annotations

import asyncio
import socket
import ssl

from daas_hub.clients import processes

HOST = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(port: int, path: str, *, within_s: float = 2.0, tls: bool = False) -> bool:
    """Whether something speaks HTTP there and answers below 500; never raises."""
    try:
        async with asyncio.timeout(within_s):
            return await _status(port, path, tls) < 500
    except ssl.SSLError:
        # With internal_ssl the server wants a certificate that only hub and proxy have: it is there, and refuses us.
        return tls
    except (OSError, ValueError, TimeoutError, EOFError):
        return False


async def _status(port: int, path: str, tls: bool) -> int:
    reader, writer = await asyncio.open_connection(HOST, port, ssl=_unverified() if tls else None)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(rest[:3])


def _unverified() -> ssl.SSLContext:
    # Only asks whether somebody is there; who it is, is told by the listener's uid.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def listener_uid(port: int) -> int | None:
    """The uid that listens there: another user may have taken the port to be sent somebody's traffic."""
    return await asyncio.to_thread(processes.listener_uid, port)
