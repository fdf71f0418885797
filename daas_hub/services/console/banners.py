"""What the hub says above a person's pages while her directory cannot be asked: the console's pages say it, too."""

from __future__ import annotations

import asyncio
import time

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import HubUnavailable

GOOD_FOR_S = 30.0
WITHIN_S = 2.0
MAX_KEPT = 10_000
NOTHING = ("", False)


class Banners:
    """The hub's answers, each kept for half a minute; a hub that is silent says nothing."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._kept: dict[str, tuple[float, tuple[str, bool]]] = {}

    async def of(self, user: str) -> tuple[str, bool]:
        """The sentence for this user now (empty: none), and whether her pages are for reading only."""
        at, said = self._kept.get(user, (0.0, NOTHING))
        if at and time.monotonic() - at < GOOD_FOR_S:
            return said
        try:
            said = await asyncio.wait_for(self._hub.banner(user), WITHIN_S)
        except (HubUnavailable, TimeoutError):
            said = NOTHING
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[user] = (time.monotonic(), said)
        return said
