"""How a proxy (configurable-http-proxy) connects to a server: seen from the other end of a route that is there briefly.

Errors are translated once, here: BackendUnavailable says what of the proxy did not answer.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from daas_hub.core.errors import BackendUnavailable

HELLO_BYTES = 1 << 14


@dataclass(frozen=True)
class Proxy:
    """Where a proxy is, and how it is asked."""

    api_url: str
    token: str
    public_url: str
    """Where people reach it, seen from here."""
    domain: str = ""
    """The name that routes begin with, where the proxy tells hosts apart."""
    tls: Mapping[str, str] = field(default_factory=dict)
    """``client_key``, ``client_cert`` and ``ca_certs`` for its API."""


@dataclass
class Came:
    """What arrived at the end of a route."""

    connected: bool = False
    name: str = ""
    """The name for which the certificate is checked (TLS: server name); empty: none was said."""


async def towards(proxy: Proxy, within_s: float) -> str:
    """This machine's address on the way to the proxy. Raises BackendUnavailable."""
    url = urlsplit(proxy.api_url)
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.hostname, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, TimeoutError) as error:
        raise _unreachable(f"its API at {proxy.api_url}", error) from error
    address = str(writer.get_extra_info("sockname")[0])
    writer.close()
    return address


async def follow(proxy: Proxy, address: str, host: str, within_s: float) -> Came:
    """What arrives here, at ``address``, from a route to ``https://host``. The route is gone afterwards.

    Raises BackendUnavailable where the proxy cannot be asked.
    """
    came = Came()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.connected = True
        with suppress(OSError):
            came.name = _name_in(await reader.read(HELLO_BYTES))
        writer.close()

    async with await asyncio.start_server(take, address, 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        inside = f"[{host}]" if ":" in host else host
        async with _route(proxy, f"https://{inside}:{port}", within_s) as path:
            await _asked(proxy, path, within_s)
    return came


@asynccontextmanager
async def _route(proxy: Proxy, target: str, within_s: float) -> AsyncIterator[str]:
    path = f"/daas-doctor-{secrets.token_hex(12)}/"
    where = f"{proxy.api_url.rstrip('/')}/api/routes{f'/{proxy.domain}' if proxy.domain else ''}{path}"
    await _api(proxy, "POST", where, json.dumps({"target": target}), within_s)
    try:
        yield path
    finally:
        await _api(proxy, "DELETE", where, None, within_s)


async def _api(proxy: Proxy, method: str, url: str, body: str | None, within_s: float) -> None:
    request = HTTPRequest(
        url,
        method=method,
        body=body,
        headers={"Authorization": f"token {proxy.token}"},
        request_timeout=within_s,
        connect_timeout=within_s,
        **proxy.tls,  # type: ignore[arg-type]
    )
    http = AsyncHTTPClient(force_instance=True)
    try:
        await http.fetch(request)
    except (OSError, HTTPClientError) as error:
        raise _unreachable(f"its API at {proxy.api_url}", error) from error
    finally:
        http.close()


async def _asked(proxy: Proxy, path: str, within_s: float) -> None:
    """Ask the proxy as a browser would; what it answers does not matter."""
    url = urlsplit(proxy.public_url)
    secure = None
    if url.scheme == "https":
        # Nothing secret is said: whose certificate it is does not matter.
        secure = ssl.create_default_context()
        secure.check_hostname, secure.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(within_s):
            port = url.port or (443 if secure else 80)
            reader, writer = await asyncio.open_connection(url.hostname, port, ssl=secure)
            try:
                host = proxy.domain or url.netloc
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise _unreachable(f"what people ask, at {proxy.public_url}", error) from error


def _name_in(hello: bytes) -> str:
    """The server name in the first message of a TLS connection; empty where it has none."""
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: names.append(name) if name else None
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    # It has no certificate to answer with: it gets no further than that name.
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return names[0] if names else ""


def _unreachable(what: str, error: Exception) -> BackendUnavailable:
    said = str(error) or type(error).__name__
    return BackendUnavailable(f"The proxy does not answer: {what}: {said}", reason="proxy")
