"""The site's directory, asked from the event loop: in a bounded number of threads, each answer bounded in time.

A server that hangs costs its threads and nothing else: another server is asked, or the caller gets DirectoryUnavailable
in time; the hung connections are cut from outside, and while all servers are held questions are refused at once.

Sign-ins have a queue and threads of their own: whoever tries passwords keeps nobody's server from starting.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from daas_hub.core.allocation import Kind
from daas_hub.core.directory import (
    ACTIVE,
    DN_SUBJECT,
    PERSON_ATTRIBUTES,
    Attributes,
    Verdict,
    canonical_name,
    first,
    identity_of,
    lock_state,
    others,
    refusal,
    same_value,
    subject_filter,
    subject_of,
    value_filter,
)
from daas_hub.core.directory_ad import sub_code
from daas_hub.core.directory_flavours import NestedGroups
from daas_hub.core.errors import AccountRefused, DirectoryUnavailable
from daas_hub.core.failover import Server
from daas_hub.core.login_forms import Form, forms, has, query
from daas_hub.core.models import Identity

from . import directory_people
from .directory_asking import SERVICE_REFUSED, Asking
from .directory_groups import Groups, GroupSettings, fill
from .directory_look import Seen, see
from .directory_pool import Pool
from .directory_queue import Turn
from .directory_servers import Servers
from .directory_session import SERVER, Address, Session, unavailable

MAX_PASSWORD_BYTES = 4096
ANY = "(objectClass=*)"
Known = tuple[Identity, Verdict] | None
"""What a look-up finds; None: nobody."""


def anybody(_who: str) -> None:
    """Every attempt is tried."""


def once(admit: Callable[[str], None]) -> Callable[[str], None]:
    """``admit``, which counts an attempt, for the first server that comes so far; the others are the same attempt."""
    begun: list[str] = []

    def admitted(who: str) -> None:
        if not begun:
            begun.append(who)
            admit(who)

    return admitted


@dataclass(frozen=True)
class DirectorySettings:
    """Where people are in the directory, and how long an answer may take."""

    name: str
    address: Address
    """How servers are protected; and where the only one is, without ``servers`` and ``srv_domain``."""
    bind_dn: str
    bind_password: str = field(repr=False)
    user_search_base: str
    user_filter: str
    name_attribute: str
    group_search_base: str
    group_filter: str
    group_condition: str = ""
    group_name_attribute: str = "cn"
    member_attribute: str = "member"
    nested_groups: NestedGroups = NestedGroups.NONE
    nested_depth: int = 10
    home_attribute: str = "homeDirectory"
    login_attributes: tuple[str, ...] = ()
    login_domains: tuple[str, ...] = ()
    more_attributes: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    srv_domain: str = ""
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

    def __init__(self, settings: DirectorySettings, servers: Servers | None = None) -> None:
        self.settings = settings
        self.issuer = f"ldap:{settings.name}"
        listed = settings.servers or (() if settings.srv_domain else (Server(settings.address.uri),))
        self.servers = servers or Servers(listed, settings.srv_domain, hold_s=settings.hold_down_s)
        self._asking = Asking(
            settings.address,
            self.servers,
            login_within_s=settings.login_within_s,
            wait_within_s=settings.wait_within_s,
            threads=settings.threads,
        )
        self._pool = Pool(settings.threads, self._bind_service)

    def close(self) -> None:
        """Let the threads go; questions on their way are not waited for."""
        self._pool.close()
        self._asking.close()

    @property
    def waiting(self) -> int:
        """Questions on their way or in a queue."""
        return self._asking.waiting

    async def authenticate(self, name: str, password: str, admit: Callable[[str], None] = anybody) -> LoginOutcome:
        """Judge a login. An unknown person costs the directory what a wrong password does: a search and a bind.

        ``admit`` is called, in a thread, with the lasting id of who is meant (or what was typed, for nobody) before
        her password is tried, once, and may raise. Raises DirectoryUnavailable, DirectoryBusy among it; says nothing
        about the password then.
        """
        typed = self._forms(name)
        if not typed or not sendable(password):
            return LoginOutcome(Verdict.WRONG)
        return await self._asking.ask(self._asking.sign_ins, self._login, typed, password, once(admit))

    async def lookup(self, name: str) -> tuple[Identity, Verdict] | None:
        """Who has this login name, and whether the account is locked; by the service bind. None: nobody.

        Raises DirectoryUnavailable.
        """
        typed = self._forms(name)
        return await self._asking.ask(self._asking.others, self._known, typed) if typed else None

    async def lookup_subject(self, subject: str, *, alone: bool = False) -> tuple[Identity, Verdict] | None:
        """The same by the lasting id, whatever she is called now. None: she is gone. Raises DirectoryUnavailable.

        ``alone``: one more search (by `uidNumber`); raises AccountRefused where another entry has her uid.
        """
        return await self._asking.ask(self._asking.others, self._known_subject, subject, alone=alone)

    async def lookup_value(self, attribute: str, value: str) -> tuple[Identity, Verdict] | None:
        """The same by exactly this value of an attribute. Raises DirectoryUnavailable, also where several have it."""
        return await self._asking.ask(self._asking.others, self._known_value, attribute, value)

    async def require_alone(self, identity: Identity) -> None:
        """Raises AccountRefused where another entry has her uid, DirectoryUnavailable."""
        await self._asking.ask(self._asking.others, self._alone, identity)

    async def lookup_subjects(self, subjects: Sequence[str]) -> Mapping[str, Known | DirectoryUnavailable]:
        """The same for a page of people in one conversation; an error as a value concerns one of them only.

        Raises DirectoryUnavailable.
        """
        if not subjects:
            return {}
        return await self._asking.ask(self._asking.others, self._known_subjects, subjects)

    async def has_number(self, kind: Kind, number: int) -> bool:
        """Whether a person or a group has this uid or gid. Raises DirectoryUnavailable."""
        return await self._asking.ask(self._asking.others, self._has_number, kind, number)

    async def ping(self) -> None:
        """Bind as the service and find the bases. Raises DirectoryUnavailable with what is wrong."""
        await self._asking.ask(self._asking.others, self._ping)

    async def look(self) -> dict[str, Seen | DirectoryUnavailable]:
        """What each server shows, held ones too, or why not. Raises DirectoryUnavailable where none is known."""
        return await self._asking.each(self._look)

    # ------------------------------------------------------------ in a thread

    def _login(self, turn: Turn, typed: Sequence[Form], password: str, admit: Callable[[str], None]) -> LoginOutcome:
        person = self._pool.ask(turn, lambda service: self._one(service, typed))
        dn = first(person, "dn") if person else None
        admit(subject_of(person) if person else typed[0].value)
        # A connection of her own: a bind makes it hers, and no question of another one is asked on it.
        with turn.session(first(person, SERVER) if person else None) as hers:
            accepted = hers.bind(dn or self._nobody(), password, once=True)
            code = sub_code(hers.refused_with)
        if person is None:
            return LoginOutcome(Verdict.WRONG)
        state = lock_state(person, datetime.now(UTC))
        if not accepted:
            return LoginOutcome(refusal(code, state, tell_locked=self.settings.tell_locked))
        if state not in ACTIVE:
            return LoginOutcome(state)
        identity = self._pool.ask(turn, lambda service: self._identity(service, self._name_of(person), person))
        return LoginOutcome(Verdict.OK, identity)

    def _nobody(self) -> str:
        """The DN of somebody who does not exist, so that an unknown person costs a bind as well."""
        return f"{self.settings.name_attribute}={uuid.uuid4().hex},{self.settings.user_search_base}"

    def _forms(self, text: str) -> list[Form]:
        settings = self.settings
        return forms(text, settings.name_attribute, settings.login_attributes, settings.login_domains)

    def _known(self, turn: Turn, typed: Sequence[Form]) -> tuple[Identity, Verdict] | None:
        return self._pool.ask(turn, lambda service: self._judged(service, self._one(service, typed)))

    def _known_subject(self, turn: Turn, subject: str, *, alone: bool) -> tuple[Identity, Verdict] | None:
        def ask(service: Session) -> tuple[Identity, Verdict] | None:
            found = self._judged(service, self._by_subject(service, subject))
            if alone and found is not None:
                self._refuse_shared_uid(service, found[0])
            return found

        return self._pool.ask(turn, ask)

    def _known_value(self, turn: Turn, attribute: str, value: str) -> tuple[Identity, Verdict] | None:
        # Only whoever could sign in by a password is meant.
        wanted = f"(&{self.settings.user_filter.replace('{name}', '*')}{value_filter(attribute, value)})"

        def ask(service: Session) -> tuple[Identity, Verdict] | None:
            seen = service.search(self.settings.user_search_base, wanted, sorted({*self._wanted, attribute}))
            people = [person for person in seen if same_value(person, attribute, value)]
            if len(people) > 1:
                raise self._ambiguous(f"{len(people)} entries have this {attribute}")
            return self._judged(service, people[0] if people else None)

        return self._pool.ask(turn, ask)

    def _alone(self, turn: Turn, identity: Identity) -> None:
        self._pool.ask(turn, lambda service: self._refuse_shared_uid(service, identity))

    def _known_subjects(self, turn: Turn, subjects: Sequence[str]) -> Mapping[str, Known | DirectoryUnavailable]:
        def ask(service: Session) -> Mapping[str, Known | DirectoryUnavailable]:
            return directory_people.look_up(
                subjects,
                search=lambda ids: self._search_people(service, f"(|{''.join(map(subject_filter, ids))})"),
                by_dn=lambda subject: self._by_subject(service, subject),
                judge=lambda person: self._judged(service, person),
                doubt=self._ambiguous,
                base=lambda: service.search(self.settings.user_search_base, ANY, ["objectClass"], subtree=False),
                hidden=lambda: service.incomplete(f"{self.settings.user_search_base} is not seen"),
            )

        return self._pool.ask(turn, ask)

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
            found = service.search(subject.removeprefix(DN_SUBJECT), "(objectClass=*)", self._wanted, subtree=False)
        else:
            found = self._search_people(service, subject_filter(subject))
        if len(found) > 1:
            raise self._ambiguous(f"{len(found)} entries have the lasting id {subject}")
        return found[0] if found else None

    def _judged(self, service: Session, person: Attributes | None) -> tuple[Identity, Verdict] | None:
        if person is None:
            return None
        return self._identity(service, self._name_of(person), person), lock_state(person, datetime.now(UTC))

    def _name_of(self, person: Attributes) -> str:
        name = canonical_name(person, self.settings.name_attribute)
        if name is None:
            raise self._ambiguous(f"{first(person, 'dn')} has no usable {self.settings.name_attribute}")
        return name

    def _look(self, turn: Turn) -> Seen:
        s = self.settings
        with turn.session() as service:
            self._bind_service(service)
            bases = [("user_search_base", s.user_search_base), ("group_search_base", s.group_search_base)]
            return see(service, [(name, dn) for name, dn in bases if dn])

    def _ping(self, turn: Turn) -> None:
        with turn.session() as service:
            self._bind_service(service)
            self._search_people(service, fill(self.settings.user_filter, {"name": "no-such-person"}))

    def _has_number(self, turn: Turn, kind: Kind, number: int) -> bool:
        with turn.session() as service:
            self._bind_service(service)
            if self._search_people(service, f"({kind}Number={number})"):
                return True
            groups = self.settings.group_search_base if kind is Kind.GID else ""
            return bool(groups and service.search(groups, f"(gidNumber={number})", ["gidNumber"]))

    def _bind_service(self, service: Session) -> None:
        settings = self.settings
        if settings.bind_dn and not service.bind(settings.bind_dn, settings.bind_password):
            detail = f"the service account {settings.bind_dn} is refused"
            raise unavailable(service.address, detail, reason=SERVICE_REFUSED)

    def _one(self, service: Session, typed: Sequence[Form]) -> Attributes | None:
        """The one entry that is meant. Several are a fault of the directory, and nobody is let in."""
        settings = self.settings
        wanted = query(typed, settings.user_filter, settings.name_attribute)
        found = self._search_people(service, wanted)
        for form in typed:
            people = [p for p in found if self._meant(p, form)]
            if len(people) > 1:
                raise self._ambiguous(f"{len(people)} entries match {wanted}")
            if people:
                return people[0]
        return None

    def _meant(self, person: Attributes, form: Form) -> bool:
        name = canonical_name(person, self.settings.name_attribute)
        if form.attribute == self.settings.name_attribute:
            return name == form.value
        return name is not None and has(person, form)

    def _ambiguous(self, detail: str) -> DirectoryUnavailable:
        return unavailable(self.settings.address, detail, reason="directory_ambiguous")

    def _search_people(self, service: Session, query: str) -> list[dict[str, list[str]]]:
        return service.search(self.settings.user_search_base, query, self._wanted)

    @property
    def _wanted(self) -> list[str]:
        s = self.settings
        chosen = {s.name_attribute, s.home_attribute, *s.login_attributes, *s.more_attributes, *PERSON_ATTRIBUTES}
        return sorted(chosen | ({"memberOf"} if s.nested_groups is NestedGroups.MEMBEROF else set()))

    def groups(self, service: Session) -> Groups:
        """The groups of people, asked for in this conversation."""
        s = self.settings
        where = GroupSettings(
            base=s.group_search_base,
            direct=s.group_filter,
            condition=s.group_condition,
            nested=s.nested_groups,
            depth=s.nested_depth,
            name_attribute=s.group_name_attribute,
            member_attribute=s.member_attribute,
        )
        return Groups(service, where)

    def _identity(self, service: Session, name: str, person: Attributes) -> Identity:
        s = self.settings
        return identity_of(
            self.issuer,
            name,
            person,
            self.groups(service).of(name, person),
            group_name_attribute=s.group_name_attribute,
            home_attribute=s.home_attribute,
        )


def sendable(password: str) -> bool:
    """Whether this can be a password: not empty (that would mean an anonymous bind), Unicode, not endless."""
    try:
        return 0 < len(password.encode()) <= MAX_PASSWORD_BYTES
    except UnicodeEncodeError:
        return False


__all__ = ["Address", "Directory", "DirectorySettings", "LoginOutcome", "Verdict", "fill", "subject_filter"]
