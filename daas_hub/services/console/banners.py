"""What the hub says above a person's pages while her directory cannot be asked: the console's pages say it, too."""

from __future__ import annotations

import asyncio
import time

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import HubUnavailable

GOOD_FOR_S = 30.0
WITHIN_S = 2.0
MAX_KEPT = 10_000


class Banners:
    """The hub's answers, each kept for half a minute; a hub that is silent says nothing."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._kept: dict[str, tuple[float, str]] = {}

    async def of(self, user: str) -> str:
        """The sentence for this user now; empty: none."""
        at, text = self._kept.get(user, (0.0, ""))
        if at and time.monotonic() - at < GOOD_FOR_S:
            return text
        try:
            text = await asyncio.wait_for(self._hub.banner(user), WITHIN_S)
        except (HubUnavailable, TimeoutError):
            text = ""
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[user] = (time.monotonic(), text)
        return text
