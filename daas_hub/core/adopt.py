"""What ``daas-hub adopt`` does: from what is there, what is known and what the directory says. Decisions, no I/O.

Whatever two sources tell differently is a conflict, and neither is believed: a conflict leaves out what it concerns and
all that stands on it. What the ledger knows already stays as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from .models import Account, Json
from .recall import Note, Seen, SeenLaunch, SeenVolume

T = TypeVar("T")
Item = TypeVar("Item", SeenLaunch, SeenVolume)


@dataclass(frozen=True)
class Known:
    """What the ledger has."""

    accounts: Mapping[str, int] = field(default_factory=dict)
    """Account → uid."""
    identities: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Identity → account."""
    user_names: Mapping[str, str] = field(default_factory=dict)
    """User of the hub → account."""
    launches: frozenset[str] = frozenset()
    """All launches that were ever here: of an ended one's server the reconciler takes care."""
    active: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(account, server) → launch."""
    volumes: frozenset[str] = frozenset()
    made: Mapping[str, str] = field(default_factory=dict)
    """``volume_key`` → volume, where something was made of it."""


@dataclass(frozen=True)
class Conflict:
    """What cannot be believed, and why. A person decides."""

    what: str
    why: str


@dataclass(frozen=True)
class NewAccount:
    """An account to write down again."""

    account: Account
    user_name: str
    identity: tuple[str, str] | None
    since: datetime


@dataclass(frozen=True)
class NewVolume:
    """A volume to write down again."""

    volume: SeenVolume
    note: Note
    backend: str


@dataclass(frozen=True)
class NewLaunch:
    """A launch to write down again."""

    launch: SeenLaunch
    note: Note
    backend: str
    request: Json


@dataclass(frozen=True)
class Plan:
    """What to write into the ledger, in this order, and what is in doubt."""

    accounts: tuple[NewAccount, ...] = ()
    volumes: tuple[NewVolume, ...] = ()
    launches: tuple[NewLaunch, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.accounts or self.volumes or self.launches)


def renewed(seen: Iterable[Seen], known: Known) -> list[Seen]:
    """The same, where a person has started anew in a fresh ledger: all that is hers goes by the account she has now.

    She is the same by her identity and by her uid; by one of them alone she is not. Where the ledger does not know
    her, the account that was noted last is hers.
    """
    seen = list(seen)
    newest: dict[tuple[tuple[str, str], int], tuple[datetime, str]] = {}
    for each in seen:
        for at, one in _dated(each):
            if (person := _person(one)) is not None:
                newest[person] = max(newest.get(person, (at, one.account_id)), (at, one.account_id))
    hers = {person: account_id for person, (_, account_id) in newest.items()}
    for identity, account_id in known.identities.items():
        if account_id in known.accounts:
            hers[identity, known.accounts[account_id]] = account_id
    return [
        replace(
            each,
            launches=tuple(_renewed(one, hers) for one in each.launches),
            volumes=tuple(_renewed(one, hers) for one in each.volumes),
        )
        for each in seen
    ]


def _dated(each: Seen) -> Iterator[tuple[datetime, SeenLaunch | SeenVolume]]:
    yield from ((one.started_at, one) for one in each.launches)
    yield from ((one.created_at, one) for one in each.volumes)


def _person(one: SeenLaunch | SeenVolume) -> tuple[tuple[str, str], int] | None:
    note = one.note
    if note is None or note.memo.identity is None or one.trouble or one.account_id != note.account.id:
        return None
    return note.memo.identity, note.account.uid


def _renewed(one: Item, hers: Mapping[tuple[tuple[str, str], int], str]) -> Item:
    person, note = _person(one), one.note
    if person is None or note is None or person not in hers:
        return one
    now = hers[person]
    return replace(one, account_id=now, note=replace(note, account=replace(note.account, id=now)))


def unknown_accounts(seen: Iterable[Seen], known: Known) -> dict[str, Note]:
    """Accounts that the ledger lacks → the first readable note: of these the directory is asked."""
    notes: dict[str, Note] = {}
    found: list[SeenLaunch | SeenVolume] = []
    for each in renewed(seen, known):
        found += [*each.launches, *each.volumes]
    for one in found:
        if one.note is not None and one.account_id not in known.accounts:
            notes.setdefault(one.account_id, one.note)
    return notes


def plan(seen: Sequence[Seen], known: Known, directory: Mapping[str, str]) -> Plan:
    """``directory``: account → what the directory says against it; nothing where it agrees."""
    conflicts: list[Conflict] = []
    seen = renewed(seen, known)
    launches = [(item, each.backend) for each in seen for item in each.launches if item.launch_id not in known.launches]
    volumes = [(item, each.backend) for each in seen for item in each.volumes if item.volume_id not in known.volumes]
    accounts, bad = _accounts(seen, known, directory, conflicts)

    def believed(item: SeenLaunch | SeenVolume) -> bool:
        if item.trouble or item.note is None:
            conflicts.append(Conflict(item.where, item.trouble or "it does not say whose it is"))
            return False
        # Why the account is in doubt is told once, of the account.
        return item.account_id not in bad

    good_launches = [pair for pair in launches if believed(pair[0])]
    good_volumes = [pair for pair in volumes if believed(pair[0])]
    good_launches = _once(
        good_launches, lambda p: (p[0].account_id, p[0].server_name), lambda p: p[0].where, conflicts, "server"
    )
    good_launches = [pair for pair in good_launches if _free(pair[0], known, conflicts)]
    good_volumes = _once(good_volumes, _key, lambda p: p[0].where, conflicts, "volume")
    good_volumes = [pair for pair in good_volumes if _no_other(pair, known, conflicts)]
    return Plan(
        accounts=tuple(accounts),
        volumes=tuple(NewVolume(item, item.note, backend) for item, backend in good_volumes if item.note is not None),
        launches=tuple(
            NewLaunch(item, item.note, backend, request_of(item.note))
            for item, backend in good_launches
            if item.note is not None
        ),
        conflicts=tuple(dict.fromkeys(conflicts)),
    )


def request_of(note: Note) -> Json:
    """The request of a launch as far as it can be known: its options are lost, her next start is the profile's own."""
    memo = note.memo
    return {
        "version": 1,
        "options": {"profile": memo.profile} if memo.profile else {},
        "profile_display_name": memo.profile_display_name or memo.profile,
    }


def _accounts(
    seen: Sequence[Seen], known: Known, directory: Mapping[str, str], conflicts: list[Conflict]
) -> tuple[list[NewAccount], set[str]]:
    """Accounts to write down, and those that nothing is believed of."""
    notes: dict[str, list[tuple[datetime, Note]]] = {}
    for each in seen:
        for launch in each.launches:
            if launch.note is not None and not launch.trouble:
                notes.setdefault(launch.account_id, []).append((launch.started_at, launch.note))
        for volume in each.volumes:
            if volume.note is not None and not volume.trouble:
                notes.setdefault(volume.account_id, []).append((volume.created_at, volume.note))
    newest = {account_id: max(told, key=lambda pair: pair[0]) for account_id, told in notes.items()}
    new = {id: note for id, (_, note) in newest.items() if id not in known.accounts}
    uids = Counter([*known.accounts.values(), *(note.account.uid for note in new.values())])
    names = Counter(note.user_name for note in new.values())
    keys = Counter(note.memo.identity for note in new.values() if note.memo.identity)
    bad: dict[str, str] = {}
    for account_id, told in notes.items():
        ids = {note.account.uid for _, note in told} | (
            {known.accounts[account_id]} if account_id in known.accounts else set()
        )
        if len(ids) > 1:
            bad[account_id] = f"it is said to have the uids {sorted(ids)}"
    for account_id, note in new.items():
        why = directory.get(account_id) or _doubt(account_id, note, known, uids, names, keys)
        if why:
            bad.setdefault(account_id, why)
    for account_id, why in bad.items():
        note = newest[account_id][1]
        conflicts.append(Conflict(f"account {note.account.name} (uid {note.account.uid}, {account_id})", why))
    good = [
        NewAccount(note.account, note.user_name, note.memo.identity, min(at for at, _ in notes[id]))
        for id, note in new.items()
        if id not in bad
    ]
    return good, set(bad)


def _doubt(
    account_id: str,
    note: Note,
    known: Known,
    uids: Mapping[int, int],
    names: Mapping[str, int],
    keys: Mapping[tuple[str, str], int],
) -> str:
    """Why this account cannot be written down beside the others; empty where it can."""
    identity = note.memo.identity
    if account_id != note.account.id:
        return f"its label says {account_id}, its note {note.account.id}"
    if uids[note.account.uid] > 1:
        return f"another account has uid {note.account.uid} as well"
    if known.user_names.get(note.user_name, account_id) != account_id or names[note.user_name] > 1:
        return f"another account is the hub's user {note.user_name} as well"
    if identity is not None and (known.identities.get(identity, account_id) != account_id or keys[identity] > 1):
        return "another account is the same identity's"
    return ""


def _once(
    items: list[T],
    key: Callable[[T], object],
    where: Callable[[T], str],
    conflicts: list[Conflict],
    what: str,
) -> list[T]:
    """Those whose key nobody else has; the others are conflicts, all of them."""
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for same in groups.values():
        if len(same) > 1:
            names = ", ".join(sorted(map(where, same)))
            conflicts.append(Conflict(names, f"they are the same {what} of the same account; only one can be"))
    return [same[0] for same in groups.values() if len(same) == 1]


def _free(launch: SeenLaunch, known: Known, conflicts: list[Conflict]) -> bool:
    other = known.active.get((launch.account_id, launch.server_name))
    if other is not None:
        conflicts.append(Conflict(launch.where, f"the ledger has launch {other} for the same server of this account"))
    return other is None


def volume_key(account_id: str, backend: str, name: str, place: Json) -> str:
    """By which the ledger finds a volume: there is one of each."""
    return json.dumps([account_id, backend, name, place], sort_keys=True)


def _key(pair: tuple[SeenVolume, str]) -> str:
    volume, backend = pair
    note = volume.note
    return volume_key(volume.account_id, backend, note.name if note else "", note.place if note else {})


def _no_other(pair: tuple[SeenVolume, str], known: Known, conflicts: list[Conflict]) -> bool:
    other = known.made.get(_key(pair))
    if other is not None:
        conflicts.append(Conflict(pair[0].where, f"the ledger has volume {other} in its place for this account"))
    return other is None
