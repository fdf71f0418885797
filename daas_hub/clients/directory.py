"""The site's directory, asked from the event loop: in a bounded number of threads, each answer bounded in time.

A directory that hangs costs its threads and nothing else: the caller gets DirectoryUnavailable in time, the hung
connections are cut from outside, and for a few seconds further questions are refused at once.

Sign-ins have a queue and threads of their own: whoever tries passwords keeps nobody's server from starting.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from daas_hub.core.allocation import Kind
from daas_hub.core.directory import (
    DN_SUBJECT,
    GROUP_ATTRIBUTES,
    PERSON_ATTRIBUTES,
    Attributes,
    Verdict,
    canonical_name,
    escape,
    first,
    identity_of,
    lock_state,
    others,
)
from daas_hub.core.errors import AccountRefused, DirectoryUnavailable
from daas_hub.core.models import Identity
from daas_hub.core.naming import login_name

from .directory_queue import Call, Queue, too_many
from .directory_session import Address, Session, session, unavailable

P = ParamSpec("P")
T = TypeVar("T")

SLOW_S = 1.0
"""A failure that took longer holds the directory down: it cost somebody time and a thread."""
MAX_PASSWORD_BYTES = 4096
SERVICE_REFUSED = "directory_service_refused"


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
    tell_locked: bool = True
    wait_within_s: float = 20.0
    threads: int = 8


@dataclass(frozen=True)
class LoginOutcome:
    """How a login ended; ``identity`` only where it is OK."""

    verdict: Verdict
    identity: Identity | None = None


class Directory:
    """One directory. Safe to use from one event loop; its threads end with ``close``."""

    def __init__(self, settings: DirectorySettings) -> None:
        self.settings = settings
        self.issuer = f"ldap:{settings.name}"
        self._sign_ins = Queue("ldap-sign-in", settings.threads)
        self._others = Queue("ldap", settings.threads)
        self._held_until = 0.0

    def close(self) -> None:
        """Let the threads go; questions on their way are not waited for."""
        self._sign_ins.close()
        self._others.close()

    @property
    def waiting(self) -> int:
        """Questions on their way or in a queue."""
        return self._sign_ins.waiting + self._others.waiting

    async def authenticate(self, name: str, password: str) -> LoginOutcome:
        """Judge a login. An unknown person costs the directory what a wrong password does: a search and a bind.

        Raises DirectoryUnavailable, DirectoryBusy among it; says nothing about the password then.
        """
        typed = login_name(name)
        if typed is None or not sendable(password):
            return LoginOutcome(Verdict.WRONG)
        return await self._ask(self._sign_ins, self._login, typed, password)

    async def lookup(self, name: str) -> tuple[Identity, Verdict] | None:
        """Who has this login name, and whether the account is locked; by the service bind. None: nobody.

        Raises DirectoryUnavailable.
        """
        typed = login_name(name)
        return None if typed is None else await self._ask(self._others, self._known, typed)

    async def lookup_subject(self, subject: str, *, alone: bool = False) -> tuple[Identity, Verdict] | None:
        """The same by the lasting id, whatever she is called now. None: she is gone. Raises DirectoryUnavailable.

        ``alone``: one more search (by `uidNumber`); raises AccountRefused where another entry has her uid.
        """
        return await self._ask(self._others, self._known_subject, subject, alone=alone)

    async def has_number(self, kind: Kind, number: int) -> bool:
        """Whether a person or a group has this uid or gid. Raises DirectoryUnavailable."""
        return await self._ask(self._others, self._has_number, kind, number)

    async def ping(self) -> None:
        """Bind as the service and find the bases. Raises DirectoryUnavailable with what is wrong."""
        await self._ask(self._others, self._ping)

    # ------------------------------------------------------------ threads and time

    async def _ask(self, queue: Queue, fn: Callable[Concatenate[Call, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        settings = self.settings
        self._refuse_while_held()
        if queue.full:
            raise too_many(settings.address, f"{queue.waiting} questions are waiting already")
        call = Call(settings.address, settings.login_within_s)
        work = queue.begin(call, lambda: self._run(fn, call, *args, **kwargs))
        try:
            # The directory's own time begins when a thread is free to ask it; until then it is not to blame.
            either: set[asyncio.Future[Any]] = {work, call.begun}
            await asyncio.wait(either, timeout=settings.wait_within_s, return_when=FIRST_COMPLETED)
        finally:
            waited_in_vain = not work.done() and not call.begun.done()
            if waited_in_vain:
                call.end()
                work.cancel()
        if waited_in_vain:
            raise too_many(settings.address, f"no thread was free within {settings.wait_within_s:g} s")
        try:
            return await asyncio.wait_for(asyncio.shield(work), settings.login_within_s)
        except TimeoutError as error:
            self._hold()
            raise unavailable(settings.address, f"no answer within {settings.login_within_s:g} s") from error

    def _run(self, fn: Callable[Concatenate[Call, P], T], call: Call, *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread: whatever waited in the queue while others hung is refused now, not made to hang as well."""
        self._refuse_while_held()
        began = time.monotonic()
        try:
            return fn(call, *args, **kwargs)
        except DirectoryUnavailable as error:
            # A fast refusal costs nobody anything. A refused service account does: more attempts would lock it.
            if time.monotonic() - began > SLOW_S or error.reason == SERVICE_REFUSED:
                self._hold()
            raise

    def _hold(self) -> None:
        self._held_until = time.monotonic() + self.settings.hold_down_s

    def _refuse_while_held(self) -> None:
        if time.monotonic() < self._held_until:
            raise unavailable(self.settings.address, "not asked: it failed a moment ago (hold_down_s)")

    # ------------------------------------------------------------ in a thread

    def _login(self, call: Call, typed: str, password: str) -> LoginOutcome:
        settings = self.settings
        with session(settings.address, call.register) as service:
            self._bind_service(service)
            person = self._one(service, typed)
            dn = first(person, "dn") if person else None
            with session(settings.address, call.register) as hers:
                accepted = hers.bind(dn or self._nobody(), password)
            if person is None:
                return LoginOutcome(Verdict.WRONG)
            verdict = lock_state(person, datetime.now(UTC))
            if not accepted:
                # OpenLDAP does not look at the password of a locked account, so it cannot be told after a proof only.
                told = verdict is Verdict.LOCKED and settings.tell_locked
                return LoginOutcome(Verdict.LOCKED if told else Verdict.WRONG)
            if verdict is not Verdict.OK:
                return LoginOutcome(verdict)
            return LoginOutcome(Verdict.OK, self._identity(service, typed, person))

    def _nobody(self) -> str:
        """The DN of somebody who does not exist, so that an unknown person costs a bind as well."""
        return f"{self.settings.name_attribute}={uuid.uuid4().hex},{self.settings.user_search_base}"

    def _known(self, call: Call, name: str) -> tuple[Identity, Verdict] | None:
        with session(self.settings.address, call.register) as service:
            self._bind_service(service)
            return self._judged(service, self._one(service, name))

    def _known_subject(self, call: Call, subject: str, *, alone: bool) -> tuple[Identity, Verdict] | None:
        with session(self.settings.address, call.register) as service:
            self._bind_service(service)
            found = self._judged(service, self._by_subject(service, subject))
            if alone and found is not None:
                self._refuse_shared_uid(service, found[0])
            return found

    def _refuse_shared_uid(self, service: Session, hers: Identity) -> None:
        """Two people with one uid would be one on every machine."""
        uid = hers.attributes.get("uid_number")
        if not isinstance(uid, int):
            # No number, or text: where the account is made of it, it is refused or another source is asked.
            return
        found = self._search_people(service, f"(&(uidNumber={uid})(!(objectClass=alias)))")
        names = others(hers.subject, found, self.settings.name_attribute)
        if names:
            told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise AccountRefused(
                f"The site's directory gives uid {uid} to {hers.name} and to {told}. Nothing is started as a uid that "
                "is not one person's. Whoever administers the directory can correct uidNumber.",
                reason="uid_shared",
            )

    def _by_subject(self, service: Session, subject: str) -> Attributes | None:
        if subject.startswith(DN_SUBJECT):
            wanted = (self.settings.name_attribute, *PERSON_ATTRIBUTES)
            found = service.search(subject.removeprefix(DN_SUBJECT), "(objectClass=*)", wanted, subtree=False)
        else:
            found = self._search_people(service, subject_filter(subject))
        if len(found) > 1:
            raise self._ambiguous(f"{len(found)} entries have the lasting id {subject}")
        return found[0] if found else None

    def _judged(self, service: Session, person: Attributes | None) -> tuple[Identity, Verdict] | None:
        if person is None:
            return None
        name = canonical_name(person, self.settings.name_attribute)
        if name is None:
            raise self._ambiguous(f"{first(person, 'dn')} has no usable {self.settings.name_attribute}")
        return self._identity(service, name, person), lock_state(person, datetime.now(UTC))

    def _ping(self, call: Call) -> None:
        with session(self.settings.address, call.register) as service:
            self._bind_service(service)
            self._search_people(service, fill(self.settings.user_filter, {"name": "no-such-person"}))

    def _has_number(self, call: Call, kind: Kind, number: int) -> bool:
        with session(self.settings.address, call.register) as service:
            self._bind_service(service)
            if self._search_people(service, f"({kind}Number={number})"):
                return True
            groups = self.settings.group_search_base if kind is Kind.GID else ""
            return bool(groups and service.search(groups, f"(gidNumber={number})", GROUP_ATTRIBUTES))

    def _bind_service(self, service: Session) -> None:
        settings = self.settings
        if settings.bind_dn and not service.bind(settings.bind_dn, settings.bind_password):
            detail = f"the service account {settings.bind_dn} is refused"
            raise unavailable(settings.address, detail, reason=SERVICE_REFUSED)

    def _one(self, service: Session, typed: str) -> Attributes | None:
        """The one entry that has this name. Several are a fault of the directory, and nobody is let in."""
        query = fill(self.settings.user_filter, {"name": typed})
        found = self._search_people(service, query)
        people = [p for p in found if canonical_name(p, self.settings.name_attribute) == typed]
        if len(people) > 1:
            raise self._ambiguous(f"{len(people)} entries match {query}")
        return people[0] if people else None

    def _ambiguous(self, detail: str) -> DirectoryUnavailable:
        return unavailable(self.settings.address, detail, reason="directory_ambiguous")

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


def sendable(password: str) -> bool:
    """Whether this can be a password: not empty (that would mean an anonymous bind), Unicode, not endless."""
    try:
        return 0 < len(password.encode()) <= MAX_PASSWORD_BYTES
    except UnicodeEncodeError:
        return False


def subject_filter(subject: str) -> str:
    """Finds an entry by its lasting id: entryUUID (RFC 4530), or Active Directory's objectGUID."""
    by_uuid = f"(entryUUID={escape(subject)})"
    try:
        raw = uuid.UUID(subject).bytes_le
    except ValueError:
        return by_uuid
    return f"(|{by_uuid}(objectGUID={''.join(f'{chr(92)}{byte:02x}' for byte in raw)}))"


def fill(template: str, values: Mapping[str, str]) -> str:
    """A filter with its ``{name}``, ``{dn}``, ``{gid}`` replaced, each escaped, in one pass."""
    return re.sub(r"\{(\w+)\}", lambda match: escape(values[match[1]]), template)


__all__ = ["Address", "Directory", "DirectorySettings", "LoginOutcome", "Verdict"]
