"""Numbers for people whom no other source gives any: once per identity, and never to anybody else afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from daas_hub.core.account import Claim
from daas_hub.core.allocation import SOURCE, Kind, Ranges, exhausted
from daas_hub.core.models import AccountGroup, Identity
from daas_hub.db.allocations import Allocation, Allocations, Key

Run = Callable[..., Awaitable[Any]]
"""Runs a call of the ledger in a thread."""
Known = Callable[[Kind, int], Awaitable[bool]]
"""Whether an outside source has a number already. Raises where it does not answer."""


class Allocator:
    """The site's ranges and whoever else may have numbers of them: name of the source → how it is asked.

    ``turn``: one for the whole process. Without it, many at once would all try the same number; between processes
    the ledger decides.
    """

    def __init__(
        self,
        rows: Allocations,
        run: Run,
        ranges: Mapping[Kind, Ranges],
        known: Mapping[str, Known],
        turn: asyncio.Lock,
    ) -> None:
        self._rows, self._run, self._ranges, self._known, self._turn = rows, run, ranges, known, turn

    async def given(self, identity: Identity, now: datetime) -> Claim | None:
        """What she was given, under the name that she has now. Raises AccountRefused where that name was another's."""
        found: Allocation | None = await self._run(self._rows.get, _key(identity), identity.name)
        if found is not None and not found.named:
            await self._run(self._rows.take_name, _key(identity), identity.name, now)
        return None if found is None else _claim(identity, found)

    async def give(self, identity: Identity, now: datetime) -> Claim:
        """What she has, given now if need be: the next numbers of the ranges that nobody has.

        Raises AccountRefused (the name was another's), AccountUnresolved (no number is left, or a source that may
        have it does not answer: nothing is given away then).
        """
        async with self._turn:
            while True:
                before = await self.given(identity, now)
                if before is not None:
                    return before
                uid = await self._free(Kind.UID, identity, now)
                gid = await self._free(Kind.GID, identity, now)
                await self._run(self._rows.take, _key(identity), identity.name, uid, gid, now)

    async def _free(self, kind: Kind, identity: Identity, now: datetime) -> int:
        while True:
            number: int | None = await self._run(self._rows.next_free, kind, self._ranges[kind])
            if number is None:
                raise exhausted(kind, self._ranges[kind], identity.name)
            holder = await self._holder(kind, number)
            if holder is None:
                return number
            await self._run(self._rows.skip, kind, number, f"known to {holder}", now)

    async def _holder(self, kind: Kind, number: int) -> str | None:
        for source, knows in self._known.items():
            if await knows(kind, number):
                return source
        return None


def _key(identity: Identity) -> Key:
    return identity.issuer, identity.subject


def _claim(identity: Identity, given: Allocation) -> Claim:
    """Her own group is called like her, as `useradd` does it."""
    group = AccountGroup(identity.name, given.gid)
    return Claim(SOURCE, identity.name, given.uid, given.gid, (group,), display_name=identity.display_name)
