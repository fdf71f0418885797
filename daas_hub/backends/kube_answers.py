"""Whether the server of a pod answers, and where the hub's proxy finds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import aiohttp

from daas_hub.clients import tls
from daas_hub.core.models import Handle

from . import kube_pod

LISTENS_WITHIN_S = 1.0
"""A new pod's network may still drop what is sent to it; the next look is a new connection."""


def url_of(ip: str, handle: Handle) -> str:
    """Where the hub's proxy finds the server: by the name that its certificate is for, where it has one."""
    host = f"[{ip}]" if ":" in ip else ip
    return f"https://{handle['host']}:{kube_pod.PORT}" if handle.get("host") else f"http://{host}:{kube_pod.PORT}"


async def there(ip: str, handle: Handle, files: Mapping[str, str]) -> bool:
    """Whether the server of this handle answers at that address; one with a certificate must prove its name."""
    if not handle.get("host"):
        return await answers(url_of(ip, handle), handle["service_prefix"])
    return await answers(
        f"https://{f'[{ip}]' if ':' in ip else ip}:{kube_pod.PORT}",
        handle["service_prefix"],
        files=files,
        name=str(handle["host"]),
    )


async def listens(ip: str) -> bool:
    """Whether anybody takes connections there: a tenth of the work of a request, so it is asked first."""
    try:
        async with asyncio.timeout(LISTENS_WITHIN_S):
            _, writer = await asyncio.open_connection(ip, kube_pod.PORT)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def answers(
    url: str, prefix: str, *, files: Mapping[str, str] = MappingProxyType({}), name: str | None = None
) -> bool:
    """Whether a JupyterHub server answers there; with https asked with ``files`` (``Backend.tls``), as ``name``."""
    timeout = aiohttp.ClientTimeout(total=2.0)
    try:
        context = await tls.client_context(files) if url.startswith("https:") else True
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(f"{url}{prefix}api", ssl=context, server_hostname=name) as answer,
        ):
            return answer.status == 200 and "X-JupyterHub-Version" in answer.headers
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False
