"""Servers whose profile is no longer open to their owner: warned, and stopped after a grace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from daas_hub.core.errors import ConfigError
from daas_hub.core.models import ACTIVE, Target
from daas_hub.core.profiles import is_open
from daas_hub.core.units import format_duration
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.runtime import DaasHub
from daas_hub.spawners.settings import SpawnerSettings

from .ending import Ending

BY = "sweep"
AT_ONCE = 1_000


class ClosedProfiles:
    """Remembers since when; a restart of the hub begins the grace anew."""

    def __init__(self, site: DaasHub, settings: SpawnerSettings, ending: Ending) -> None:
        self._site, self._settings, self._ending = site, settings, ending
        self._since: dict[str, float] = {}

    async def look(self, handler: Any, user: Any, model: dict[str, Any]) -> None:
        """Judge what runs as her by the groups that she has now."""
        if not user.active:
            return
        ledger, now = self._site.ledger, self._site.now()
        account = await self._site.run(ledger.accounts.by_user_name, user.name)
        if account is None:
            return
        rows = await self._site.run(ledger.launches, states=ACTIVE, account_id=account.id, limit=AT_ONCE)
        for row in rows:
            if row.target is not Target.RUNNING:
                continue
            if await self._open(row, user, model):
                self._since.pop(row.id, None)
            elif row.id not in self._since:
                self._since[row.id] = now
                await self._warn(row, now)
            elif now - self._since[row.id] >= self._site.closed_profile_grace_s:
                del self._since[row.id]
                await self._stop(handler, user, row, now)

    async def _open(self, row: LaunchRow, user: Any, model: dict[str, Any]) -> bool:
        """A profile that is gone, or a list that cannot be read, closes nothing."""
        spawner = user.spawners.get(row.server_name)
        try:
            profiles = await self._site.catalogue.load(self._settings.profile_list, spawner)
        except ConfigError:
            return True
        profile = next((p for p in profiles if p.slug == row.profile), None)
        return profile is None or is_open(profile.allowed_groups, model["groups"], bool(model["admin"]))

    async def _warn(self, row: LaunchRow, now: float) -> None:
        which = f"Your server {row.server_name}" if row.server_name else "Your server"
        grace = format_duration(self._site.closed_profile_grace_s)
        text = f"{which} stops in {grace}: its profile {row.profile} is no longer open to your groups."
        await self._site.run(
            self._site.ledger.notices.add, row.account_id, row.server_name, text, now=datetime.fromtimestamp(now, UTC)
        )

    async def _stop(self, handler: Any, user: Any, row: LaunchRow, now: float) -> None:
        reason = f"the profile {row.profile} is no longer open to your groups"
        at = datetime.fromtimestamp(now, UTC)
        await self._site.run(self._site.ledger.set_target, row.id, Target.STOPPED, now=at, reason=reason, by=BY)
        which = f"Your server {row.server_name}" if row.server_name else "Your server"
        text = f"{which} was stopped: {reason}. Files are kept."
        await self._site.run(self._site.ledger.notices.add, row.account_id, row.server_name, text, now=at)
        self._ending.stop_servers(handler, user, row.server_name)
