"""The connections to an API server. At the end of their pool they are cut: one that is gone says no farewell in TLS.

Without this a socket whose call had timed out stays open for another 30 s (asyncio's wait for TLS's close_notify),
also past the end of the event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import aiohttp
from kubernetes_asyncio.client import ApiClient, Configuration

READ_AHEAD_BYTES = 2**21
"""What may be read before somebody takes it; etcd keeps no object larger than 1.5 MiB."""
TURNS = 20
"""Of the loop, in which a connection that was cut is told so and closes."""


class Connector(aiohttp.TCPConnector):
    """Knows its sockets."""

    def __init__(self, **kwargs: Any) -> None:
        self._mine: WeakSet[socket.socket] = WeakSet()
        super().__init__(socket_factory=self._make, **kwargs)

    def _make(self, info: Any) -> socket.socket:
        family, kind, proto, *_ = info
        made = socket.socket(family, kind, proto)
        made.setblocking(False)
        self._mine.add(made)
        return made

    async def close_now(self) -> None:
        """Close the pool, and cut what waits for a server that does not answer."""
        await self.close()
        for _ in range(TURNS):
            left = [one for one in self._mine if one.fileno() != -1]
            if not left:
                return
            for one in left:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(0)


class ApiConnection(ApiClient):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """``kubernetes_asyncio``'s client on such connections; made by ``to``."""

    _connector: Connector

    @classmethod
    async def to(cls, configuration: Configuration) -> ApiConnection:
        """Needs a running loop. Asks nobody."""
        api = cls(configuration)
        await api.rest_client.pool_manager.close()
        api._connector = Connector(limit=configuration.connection_pool_maxsize, ssl=_context(configuration))
        api.rest_client.pool_manager = aiohttp.ClientSession(
            connector=api._connector, trust_env=True, read_bufsize=READ_AHEAD_BYTES
        )
        return api

    async def close(self) -> None:
        """Close it at once, whatever the server does."""
        await super().close()
        await self._connector.close_now()


def _context(configuration: Configuration) -> ssl.SSLContext:
    """What the kubeconfig asks for; the library makes its own the same way, but out of reach."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
