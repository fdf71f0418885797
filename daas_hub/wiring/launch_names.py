"""Hub and proxy connect to launches by names of their own, where JupyterHub has ``internal_ssl``."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import ConfigurableHTTPProxy

from daas_hub.core.launch_names import host_of

HOOK = Path(__file__).with_name("proxy_names.cjs").resolve()
"""What Node loads into the proxy."""


class LaunchResolver(ThreadedResolver):
    """The host's addresses for a launch's name, in the client that JupyterHub itself uses."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await super().resolve(host_of(host), port, family)


def teach(app: Any) -> None:
    """Before the hub connects to anything: its own client looks names up, and the proxy that it starts does.

    A proxy that is started elsewhere is given ``HOOK`` there (docs/howto/internal-tls.md).
    """
    client = JupyterHubHTTPClient.instance()
    client.connector_options = {"resolver": LaunchResolver(), **client.connector_options}
    proxy = app.proxy
    if isinstance(proxy, ConfigurableHTTPProxy) and proxy.should_start:
        proxy.command = with_hook(proxy.command, os.environ.get("NODE_OPTIONS", ""))
    else:
        app.log.info("The proxy is started elsewhere: with internal_ssl, Node needs --require=%s there", HOOK)


def with_hook(command: list[str], node_options: str) -> list[str]:
    """The proxy's command with our hook, beside what else Node was told."""
    given = f"{node_options} --require={json.dumps(str(HOOK))}".strip()
    return ["env", f"NODE_OPTIONS={given}", *command]
