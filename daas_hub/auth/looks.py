"""What the source of each person says of her now, without a request of hers: the seam between the sweep and the ways.

An authenticator may have ``look_at(people)``, which asks about a page of people at once; any other one is asked about
each by ``refresh_user``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tornado import web

from daas_hub.auth.common import maybe
from daas_hub.core.access import Answer

AT_ONCE = 10
"""People about whom a provider is asked at the same time."""


@dataclass(frozen=True)
class Person:
    """A hub user who has signed in, and what that left."""

    user: Any
    state: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What was said of one person."""

    answer: Answer
    model: dict[str, Any] | None = None
    """What the hub should store of her now; only where the answer is VALID."""
    why: str = ""
    """For the log and for her."""


class Looks(Protocol):
    """An authenticator that can tell about many at once."""

    async def look_at(self, people: Sequence[Person], /) -> Sequence[Look]:
        """One look for each of them, in their order. Never raises for what a directory does."""
        ...


async def look(authenticator: Any, people: Sequence[Person]) -> Sequence[Look]:
    """One look for each of them, in their order."""
    ask = getattr(authenticator, "look_at", None)
    if ask is not None:
        found: Sequence[Look] = await ask(people)
        return found
    return await each(people, lambda person: _by_refresh(authenticator, person))


async def each(people: Iterable[Person], ask: Callable[[Person], Awaitable[Look]]) -> list[Look]:
    """Ask about one after the other, a few at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(person: Person) -> Look:
        async with limit:
            return await ask(person)

    return await asyncio.gather(*map(one, people))


async def _by_refresh(authenticator: Any, person: Person) -> Look:
    said = await maybe(authenticator.refresh_user(person.user, None))
    if isinstance(said, dict):
        return Look(Answer.VALID, said)
    if said:
        return Look(Answer.UNREACHABLE, why="it cannot be told whether your account is in use")
    return Look(Answer.REVOKED, why="your account is no longer in use or not open to this service")


async def still_allowed(authenticator: Any, user_name: str, model: dict[str, Any]) -> bool:
    """Whether the lists of the site let her in, as they are now."""
    try:
        if not await maybe(authenticator.check_blocked_users(user_name, model)):
            return False
        return bool(await maybe(authenticator.check_allowed(user_name, model)))
    except web.HTTPError:
        return False
