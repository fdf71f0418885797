"""How servers are asked where they have certificates: each side proves who it is (JupyterHub's internal_ssl)."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Mapping


async def client_context(files: Mapping[str, str]) -> ssl.SSLContext:
    """For connections with the hub's own ``client_key``, ``client_cert`` and ``ca_certs``; kept, and made in a thread.

    The other side's certificate and name are always checked. Raises ValueError without these files, OSError (so
    ssl.SSLError) where they cannot be used.
    """
    try:
        names = (files["client_key"], files["client_cert"], files["ca_certs"])
    except KeyError as error:
        raise ValueError(f"the hub has no {error} to ask this server with: was internal_ssl switched off?") from error
    return await asyncio.to_thread(_context, *names)


@functools.lru_cache(maxsize=8)
def _context(key: str, certificate: str, authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    context.load_cert_chain(certificate, key)
    return context
