"""Free ports, and whether the right process answers on one."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Mapping

from daas_hub.clients import processes, tls
from daas_hub.core.launch_names import host_of

HOST = "127.0.0.1"


def own_host(launch_id: str) -> str:
    """An address of the loopback network (RFC 1122: all of 127/8) for one launch, whose certificate names it alone.

    One of 16 million: with 127.0.0.1 everybody's certificate would be good for everybody's server.
    """
    a, b, c = hashlib.sha256(launch_id.encode()).digest()[:3]
    return f"127.{a % 254 + 1}.{b}.{c % 254 + 1}"


def free_port(host: str = HOST) -> int:
    """A port of that address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(
    port: int, path: str, *, host: str = HOST, within_s: float = 2.0, files: Mapping[str, str] | None = None
) -> bool:
    """Whether a server speaks HTTP there and answers below 500; never raises.

    With ``files`` (``Backend.tls``) it must prove that ``host`` is its name before it is asked anything.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _status(host, port, path, files) < 500
    except (OSError, ValueError, TimeoutError, EOFError):
        return False


async def _status(host: str, port: int, path: str, files: Mapping[str, str] | None) -> int:
    context = None if files is None else await tls.client_context(files)
    name = None if context is None else host
    reader, writer = await asyncio.open_connection(host_of(host), port, ssl=context, server_hostname=name)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("ascii"))
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ValueError("not HTTP")
    return int(rest[:3])


async def listener_uid(port: int, host: str = HOST) -> int | None:
    """The uid that listens there: another user may have taken the port to be sent somebody's traffic."""
    return await asyncio.to_thread(processes.listener_uid, port, host)
