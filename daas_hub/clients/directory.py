"""The site's directory, asked from the event loop: in a bounded number of threads, each answer bounded in time.

A directory that hangs costs its threads and nothing else: the caller gets DirectoryUnavailable in time, the hung
connections are cut from outside, and for a few seconds further questions are refused at once.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from daas_hub.core.directory import (
    GROUP_ATTRIBUTES,
    PERSON_ATTRIBUTES,
    Attributes,
    Verdict,
    entry_name,
    escape,
    escape_dn,
    first,
    identity_of,
    lock_state,
)
from daas_hub.core.errors import DirectoryUnavailable
from daas_hub.core.models import Identity
from daas_hub.core.naming import login_name

from .directory_session import Address, Session, cut, session, unavailable

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class DirectorySettings:
    """Where people are in the directory, and how long an answer may take."""

    name: str
    address: Address
    bind_dn: str
    bind_password: str = field(repr=False)
    user_search_base: str
    user_filter: str
    name_attribute: str
    group_search_base: str
    group_filter: str
    login_within_s: float = 10.0
    hold_down_s: float = 5.0
    threads: int = 8


@dataclass(frozen=True)
class LoginOutcome:
    """How a login ended; ``identity`` only where it is OK."""

    verdict: Verdict
    identity: Identity | None = None


@dataclass
class Call:
    """One question on its way, and what must be cut when it takes too long."""

    connections: list[Any] = field(default_factory=list)

    def cut(self) -> None:
        """Close its connections from outside."""
        for connection in self.connections:
            cut(connection)


class Directory:
    """One directory. Safe to use from one event loop; its threads end with ``close``."""

    def __init__(self, settings: DirectorySettings) -> None:
        self.settings = settings
        self.issuer = f"ldap:{settings.name}"
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="ldap")
        self._waiting = 0
        self._held_until = 0.0

    def close(self) -> None:
        """Let the threads go; questions on their way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, name: str, password: str) -> LoginOutcome:
        """Judge a login. An unknown person costs the directory what a wrong password does: a search and a bind.

        Raises DirectoryUnavailable; says nothing about the password then.
        """
        typed = login_name(name)
        if typed is None or not password:
            return LoginOutcome(Verdict.WRONG)
        return await self._ask(self._login, typed, password)

    async def lookup(self, name: str) -> tuple[Identity, Verdict] | None:
        """Who has this login name, and whether the account is locked; by the service bind. None: nobody."""
        typed = login_name(name)
        return None if typed is None else await self._ask(self._known, {"name": typed}, typed)

    async def lookup_subject(self, subject: str, name: str) -> tuple[Identity, Verdict] | None:
        """The same by the lasting id, for somebody who signed in before under ``name``. None: she is gone."""
        return await self._ask(self._known_subject, subject, name)

    async def ping(self) -> None:
        """Bind as the service and find the bases. Raises DirectoryUnavailable with what is wrong."""
        await self._ask(self._ping)

    # ------------------------------------------------------------ threads and time

    async def _ask(self, fn: Callable[Concatenate[Call, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        settings = self.settings
        if time.monotonic() < self._held_until:
            raise unavailable(settings.address, "held down after a failure")
        if self._waiting >= 4 * settings.threads:
            raise unavailable(settings.address, f"{self._waiting} questions are waiting already")
        call = Call()
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, lambda: fn(call, *args, **kwargs))
        work.add_done_callback(self._answered)
        try:
            return await asyncio.wait_for(asyncio.shield(work), settings.login_within_s)
        except TimeoutError as error:
            call.cut()
            self._hold()
            raise unavailable(settings.address, f"no answer within {settings.login_within_s:g} s") from error
        except DirectoryUnavailable:
            self._hold()
            raise

    def _answered(self, work: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()

    def _hold(self) -> None:
        self._held_until = time.monotonic() + self.settings.hold_down_s

    # ------------------------------------------------------------ in a thread

    def _login(self, call: Call, typed: str, password: str) -> LoginOutcome:
        settings = self.settings
        with session(settings.address, call.connections.append) as service:
            person = self._person(service, typed)
            dn = first(person, "dn") if person else None
            with session(settings.address, call.connections.append) as hers:
                accepted = hers.bind(dn or self._nobody(), password)
            if person is None:
                return LoginOutcome(Verdict.WRONG)
            verdict = lock_state(person, datetime.now(UTC))
            if verdict is not Verdict.OK:
                return LoginOutcome(verdict)
            if not accepted:
                return LoginOutcome(Verdict.WRONG)
            return LoginOutcome(Verdict.OK, self._identity(service, typed, person))

    def _nobody(self) -> str:
        """The DN of somebody who does not exist, so that an unknown person costs a bind as well."""
        return f"{self.settings.name_attribute}={uuid.uuid4().hex},{self.settings.user_search_base}"

    def _known(self, call: Call, values: Mapping[str, str], name: str) -> tuple[Identity, Verdict] | None:
        query = fill(self.settings.user_filter, values)
        with session(self.settings.address, call.connections.append) as service:
            self._bind_service(service)
            person = self._one(service, query, name)
            if person is None:
                return None
            return self._identity(service, name, person), lock_state(person, datetime.now(UTC))

    def _known_subject(self, call: Call, subject: str, name: str) -> tuple[Identity, Verdict] | None:
        if subject.startswith("dn:"):
            found = self._known(call, {"name": name}, name)
            return found if found is not None and found[0].subject == subject else None
        with session(self.settings.address, call.connections.append) as service:
            self._bind_service(service)
            people = self._search_people(service, f"(entryUUID={escape(subject)})")
            if len(people) != 1:
                return None
            return self._identity(service, name, people[0]), lock_state(people[0], datetime.now(UTC))

    def _ping(self, call: Call) -> None:
        with session(self.settings.address, call.connections.append) as service:
            self._bind_service(service)
            self._search_people(service, fill(self.settings.user_filter, {"name": "no-such-person"}))

    def _person(self, service: Session, typed: str) -> Attributes | None:
        self._bind_service(service)
        return self._one(service, fill(self.settings.user_filter, {"name": typed}), typed)

    def _bind_service(self, service: Session) -> None:
        settings = self.settings
        if settings.bind_dn and not service.bind(settings.bind_dn, settings.bind_password):
            raise unavailable(settings.address, f"the service account {settings.bind_dn} is refused")

    def _one(self, service: Session, query: str, typed: str) -> Attributes | None:
        """The one entry that has this name. Several are a fault of the directory, and nobody is let in."""
        found = self._search_people(service, query)
        people = [p for p in found if entry_name(p, self.settings.name_attribute, typed)]
        if len(people) > 1:
            raise unavailable(self.settings.address, f"{len(people)} entries match {query}")
        return people[0] if people else None

    def _search_people(self, service: Session, query: str) -> list[dict[str, list[str]]]:
        wanted = (self.settings.name_attribute, *PERSON_ATTRIBUTES)
        return service.search(self.settings.user_search_base, query, wanted)

    def _identity(self, service: Session, name: str, person: Attributes) -> Identity:
        settings, groups = self.settings, []
        if settings.group_search_base:
            values = {"name": name, "dn": first(person, "dn") or "", "gid": first(person, "gidNumber") or "-1"}
            query = fill(settings.group_filter, values)
            groups = service.search(settings.group_search_base, query, GROUP_ATTRIBUTES)
        return identity_of(self.issuer, name, person, groups)


def fill(template: str, values: Mapping[str, str]) -> str:
    """A filter with its ``{name}``, ``{dn}``, ``{gid}`` replaced, each escaped, in one pass."""
    return re.sub(r"\{(\w+)\}", lambda match: escape(values[match[1]]), template)


__all__ = ["Address", "Directory", "DirectorySettings", "LoginOutcome", "Verdict", "escape_dn"]
