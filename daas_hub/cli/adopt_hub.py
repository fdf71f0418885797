"""The hub's part of ``daas-hub adopt``: users that its database lost, and servers that it has to find again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from daas_hub.clients.hub import Answer
from daas_hub.clients.hub_people import HubPeople
from daas_hub.core.errors import HubUnavailable
from daas_hub.core.models import Identity
from daas_hub.db.accounts import AccountRow
from daas_hub.db.ledger import LaunchRow
from daas_hub.spawners.certificates import own_files

LOOK_EVERY_S = 0.5
AT_ONCE = 10

EVERYWHERE = frozenset({None, "", "*", "0.0.0.0", "::"})  # noqa: S104  compared with, not listened on

Say = Callable[[str], None]


def api_of(app: Any) -> str:
    """Where the hub of this configuration answers REST, seen from the machine or pod that it runs on."""
    url = urlsplit(app.hub_connect_url or app.hub_bind_url or f"http://{app.hub_ip}:{app.hub_port}")
    host = "127.0.0.1" if url.hostname in EVERYWHERE else url.hostname
    base = app.base_url.strip("/")
    scheme = "https" if app.internal_ssl else url.scheme
    return f"{scheme}://{host}:{url.port or 8081}/{f'{base}/' if base else ''}hub/api"


def tls_of(app: Any) -> Mapping[str, str]:
    """The files with which this hub is asked; none where it speaks plain HTTP. Blocks; raises ConfigError."""
    return own_files(app.internal_certs_location) if app.internal_ssl else {}


async def missing(api: str, token: str, rows: Sequence[LaunchRow], *, tls: Mapping[str, str]) -> list[str]:
    """What the hub does not know of these launches, a line each."""
    hub = HubPeople(api, token, tls=tls)
    try:
        if not await hub.up():
            return [f"the hub at {api} does not answer"]
        users = await hub.users()
        names = {row.user_name for row in rows}
        lines = [f"user {name}: would be made in the hub" for name in sorted(names - users.keys())]
        for row in rows:
            if not _ready(users.get(row.user_name), row.server_name):
                lines.append(f"server {_name(row)}: the hub would find it again")
        return lines
    finally:
        hub.close()


def _ready(user: Mapping[str, Any] | None, server: str) -> bool:
    return bool(((user or {}).get("servers") or {}).get(server, {}).get("ready"))


def _name(row: LaunchRow) -> str:
    return f"{row.user_name}/{row.server_name}".rstrip("/")


async def adopt(
    api: str,
    token: str,
    rows: Sequence[LaunchRow],
    people: Mapping[str, AccountRow],
    identities: Mapping[str, tuple[str, str]],
    *,
    tls: Mapping[str, str],
    within_s: float,
    say: Say,
) -> int:
    """Make what is missing and wait until the hub serves every launch; how many it does not in the end."""
    hub = HubPeople(api, token, tls=tls)
    try:
        async with asyncio.timeout(within_s):
            return await _Adopting(hub, rows, people, identities, say).run()
    except TimeoutError:
        users = await hub.users() if await hub.up() else {}
        left = [row for row in rows if not _ready(users.get(_user(row, people)), row.server_name)]
        for row in left:
            say(f"  server {_name(row)}: the hub does not serve it after {within_s} s; the reconciler goes on trying")
        return len(left)
    finally:
        hub.close()


def _user(row: LaunchRow, people: Mapping[str, AccountRow]) -> str:
    """The user who has the account now."""
    person = people.get(row.account_id)
    return person.user_name if person is not None else ""


class _Adopting:
    """The hub's users and servers, made to agree with the ledger."""

    def __init__(
        self,
        hub: HubPeople,
        rows: Sequence[LaunchRow],
        people: Mapping[str, AccountRow],
        identities: Mapping[str, tuple[str, str]],
        say: Say,
    ) -> None:
        self._hub, self._rows, self._people, self._identities, self._say = hub, rows, people, identities, say
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> int:
        """How many servers the hub does not serve."""
        told = False
        while not await self._hub.up():
            if not told:
                self._say("The hub does not answer yet: start it. Waiting.")
                told = True
            await asyncio.sleep(LOOK_EVERY_S)
        users = await self._hub.users()
        wanted = {_user(row, self._people): row.account_id for row in self._rows if _user(row, self._people)}
        new = sorted(name for name in wanted if name not in users)
        if new:
            await self._hub.make_users(new)
            await asyncio.gather(*(self._remember(name, wanted[name]) for name in new))
            self._say(f"Made in the hub: {len(new)} users.")
        todo = [row for row in self._rows if not _ready(users.get(_user(row, self._people)), row.server_name)]
        done = await asyncio.gather(*(self._start(row) for row in todo))
        self._say(f"The hub serves {len(self._rows) - len(todo) + sum(done)} of {len(self._rows)} servers.")
        return len(done) - sum(done)

    async def _remember(self, name: str, account_id: str) -> None:
        key = self._identities.get(account_id)
        if key is None:
            self._say(f"  user {name}: no identity is recorded; the server waits for the person's next sign-in")
            return
        async with self._slots:
            person = self._people[account_id]
            await self._hub.remember(name, asdict(Identity(*key, person.name, person.display_name)))

    async def _start(self, row: LaunchRow) -> bool:
        """Ask for it and wait until it is served. The hub may be at it already, asked by the reconciler."""
        user = _user(row, self._people)
        if not user:
            self._say(f"  server {_name(row)}: nobody has this account now")
            return False
        async with self._slots:
            while True:
                try:
                    answer, said = await self._hub.start_server(user, row.server_name)
                except HubUnavailable as error:
                    self._say(f"  server {_name(row)}: {error.message}")
                    return False
                model = await self._settled(user, row.server_name)
                if model:
                    return True
                if answer is Answer.REFUSED or answer is Answer.NO_SUCH:
                    self._say(f"  server {_name(row)}: the hub refuses it: {answer} {said}")
                    return False
                await asyncio.sleep(LOOK_EVERY_S)

    async def _settled(self, user: str, server: str) -> bool:
        """Whether it is served, once the hub is not busy with it."""
        while True:
            model = await self._hub.server(user, server)
            if model is None:
                return False
            if model.get("ready"):
                return True
            if not model.get("pending"):
                return False
            await asyncio.sleep(LOOK_EVERY_S)
