"""Groups for the console's handlers: the ledger's, and those that only the hub knows (see store)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daas_hub.clients.hub import HubClient
from daas_hub.core.errors import InvalidOptions

from . import group_models as gm
from . import group_queries as g
from . import queries as q
from .access import Person

if TYPE_CHECKING:
    from .store import Store


class GroupStore:
    """What handlers ask about groups."""

    def __init__(self, store: Store, hub: HubClient) -> None:
        self._store = store
        self._hub = hub

    async def all(self, person: Person) -> gm.GroupList:
        """See group_queries.groups."""
        return await self._store.call(g.groups, person, await self._hub.groups())

    async def one(self, name: str) -> gm.GroupDetail:
        """See group_queries.group."""
        return await self._store.call(g.group, name, await self._hub.members(name))

    async def create(self, wanted: gm.NewGroup, person: Person) -> gm.GroupDetail:
        """See group_queries.create."""
        await self._store.call(g.create, wanted, person, _now())
        return await self.one(wanted.name)

    async def delete(self, name: str, typed: str, note: str, person: Person) -> None:
        """See group_queries.delete."""
        await self._store.call(g.delete, name, typed, note, person, _now())

    async def add_member(self, name: str, user: str, note: str, person: Person) -> gm.GroupDetail:
        """Who has never started a server is looked up by the hub, which records her account."""
        await self._store.call(g.require_local, name)
        if not user:
            raise InvalidOptions("user: empty is not allowed; give a user name.", field="user")
        account_id = await self._store.call(q.account_id, user) or await self._named(user)
        await self._store.call(g.add_member, name, account_id, note, person, _now())
        return await self.one(name)

    async def _named(self, user: str) -> str:
        try:
            return await self._hub.account_id(user)
        except InvalidOptions as error:
            raise InvalidOptions(error.message, field="user") from error

    async def remove_member(self, name: str, user: str, note: str, person: Person) -> None:
        """See group_queries.remove_member."""
        await self._store.call(g.remove_member, name, user, note, person, _now())


def _now() -> datetime:
    return datetime.now(UTC)
