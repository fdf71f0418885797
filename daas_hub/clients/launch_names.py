"""Looking up launches' own names (``core/launch_names.py``) where tornado's client connects to servers."""

from __future__ import annotations

import socket
from typing import Any

from tornado.netutil import DefaultLoopResolver

from daas_hub.core.launch_names import host_of


class LaunchResolver(DefaultLoopResolver):
    """The host's addresses for a launch's name; a certificate is still checked for the whole name."""

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        return await super().resolve(host_of(host), port, family)
