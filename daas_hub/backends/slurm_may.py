"""What each person may ask of the cluster, looked at no more often than it changes much.

Partitions are those of the capacity look; reservations, QOS and settings are asked for once for everybody,
associations once for each person. While the cluster or its accounting does not answer, the last word stays, with its
age.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from logging import Logger, LoggerAdapter
from typing import Any, TypeVar

from daas_hub.clients.slurm import Slurm
from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_choices import May, Told
from daas_hub.core.slurm_cluster import EVERYBODY, Association, Partition

from .slurm_capacity import CapacityLook

T = TypeVar("T")
SETTINGS_FOR_S = 300.0
LOOK_S = 4.0
"""Nobody waits longer for one of the lists; the question goes on for the next one."""
MAX_PEOPLE = 1000
"""Of how many people the last word is kept."""


class MayLook:
    """The lists of a cluster. For one event loop."""

    def __init__(
        self, slurm: Slurm, capacity: CapacityLook, site: Mapping[str, str], log: Logger | LoggerAdapter[Any]
    ) -> None:
        """``site``: field → what the site's own settings say for all profiles."""
        self._slurm, self._capacity, self._site, self._log = slurm, capacity, site, log
        self._settings = SharedLook(slurm.settings)
        self._above = SharedLook(slurm.accounts_above)
        self._reservations = SharedLook(slurm.reservations)
        self._qos = SharedLook(slurm.qos)
        self._people: OrderedDict[str, SharedLook[Any]] = OrderedDict()

    async def look(self, user: str, max_age_s: float) -> May:
        """What this account may use; what was never told is None, and without a name what she may. Never raises."""
        told, associations, reservations, qos, settings = await asyncio.gather(
            self._partitions(),
            self._associations(user, max_age_s),
            self._told(self._reservations, max_age_s),
            self._told(self._qos, max_age_s),
            self._told(self._settings, SETTINGS_FOR_S),
        )
        kept = Told(tuple(reservations.value), reservations.as_of, reservations.current) if reservations else None
        enforced = frozenset({"associations", "qos"})
        if settings is not None:
            enforced = _enforced(settings.value)
        above = await self._accounts_above(told)
        return May(user, told, associations, kept, enforced, above, qos, self._site)

    async def _partitions(self) -> Told[tuple[Partition, ...]] | None:
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._capacity.partitions()
        except TimeoutError:
            return None

    async def _associations(self, user: str, max_age_s: float) -> Told[tuple[Association, ...]] | None:
        told = await self._told(self._of(user), max_age_s) if user else None
        return Told(tuple(told.value), told.as_of, told.current) if told is not None else None

    async def _accounts_above(self, told: Told[tuple[Partition, ...]] | None) -> Mapping[str, frozenset[str]]:
        """Only where a list of a partition names accounts does it matter which are above others."""
        listed = told.value if told is not None else ()
        if all(one.accounts == EVERYBODY and not one.denied_accounts for one in listed):
            return {}
        above = await self._told(self._above, SETTINGS_FOR_S)
        return above.value if above is not None else {}

    def _of(self, user: str) -> SharedLook[Any]:
        look = self._people.get(user)
        if look is None:
            look = self._people[user] = SharedLook(partial(self._slurm.associations, user))
        self._people.move_to_end(user)
        while len(self._people) > MAX_PEOPLE:
            self._people.popitem(last=False)
        return look

    async def _told(self, look: SharedLook[T], max_age_s: float) -> Told[T] | None:
        """An answer that is young enough, else the last one there was; None: there was none yet."""
        try:
            async with asyncio.timeout(LOOK_S):
                await look.get(max_age_s)
        except (TimeoutError, BackendUnavailable) as error:
            self._log.debug("What may be used on the cluster: %s", error)
            current = False
        else:
            # A question that somebody put since may have failed.
            current = look.failing is None
        return Told(look.last.value, look.last.as_of, current) if look.last is not None else None

    async def close(self) -> None:
        """End what is being asked."""
        looks: list[SharedLook[Any]] = [self._settings, self._above, self._reservations, self._qos]
        for look in [*looks, *self._people.values()]:
            await look.close()


def _enforced(settings: Mapping[str, str]) -> frozenset[str]:
    """What is asked of the accounting at a submission."""
    words = frozenset(settings.get("AccountingStorageEnforce", "").replace(" ", "").lower().split(","))
    if "all" in words:
        words |= {"associations", "limits", "qos"}
    if "safe" in words:
        words |= {"limits"}
    # Whoever enforces limits or QOS, enforces associations.
    return words | {"associations"} if words & {"limits", "qos", "wckeys"} else words
