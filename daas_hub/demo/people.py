"""The people and groups of the demo, and their entries in its directory (RFC 2307)."""

from __future__ import annotations

import grp
import pwd
import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .tree import Entry

BASE = "dc=demo,dc=example"
SERVICE_DN = f"cn=daas-hub,ou=services,{BASE}"
DIRECTORY_NAME = "demo"
ISSUER = f"ldap:{DIRECTORY_NAME}"
FIRST_ID = 20001
"""Above the ids of usual distributions, and above ``min_uid``."""

GROUPS = {"operators": "Run the service", "researchers": "Physics group", "students": "Data course"}
ADMIN_GROUP = "operators"
CAST: tuple[tuple[str, str, tuple[str, ...], dict[str, bool]], ...] = (
    ("ada", "Ada Admin", ("operators", "researchers"), {"admin": True}),
    ("rosa", "Rosa Leader", ("researchers",), {}),
    ("ravi", "Ravi Researcher", ("researchers",), {}),
    ("quinn", "Quinn Overquota", ("researchers",), {"over_quota": True}),
    ("sam", "Sam Student", ("students",), {}),
    ("lena", "Lena Locked", ("students",), {"locked": True}),
)
"""Wanted name, display name, groups (the first is the primary one), what is special."""


@dataclass(frozen=True)
class Person:
    """One person of the demo. What ``--ready-file`` tells of her, and her POSIX side."""

    name: str
    display_name: str
    groups: tuple[str, ...]
    uid: int
    gid: int
    home: str
    password: str = field(repr=False)
    admin: bool = False
    locked: bool = False
    over_quota: bool = False

    def public(self) -> dict[str, Any]:
        """The row of the ready file."""
        keys = ("name", "password", "groups", "admin", "locked", "over_quota")
        return {key: list(value) if isinstance(value := getattr(self, key), tuple) else value for key in keys}


@dataclass(frozen=True)
class Site:
    """Everybody, and what the hub needs to ask the directory about them. Kept in the state folder between starts."""

    people: tuple[Person, ...]
    gids: dict[str, int]
    service_password: str = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """For the state folder."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Site:
        """What ``to_json`` wrote."""
        people = tuple(Person(**{**p, "groups": tuple(p["groups"])}) for p in data["people"])
        return cls(people, dict(data["gids"]), data["service_password"])


def _free_ids(n: int) -> Iterator[int]:
    """Numbers that no user and no group of this machine has."""
    number = FIRST_ID
    while n:
        if not _known(pwd.getpwuid, number) and not _known(grp.getgrgid, number):
            n -= 1
            yield number
        number += 1


def _known(look_up: Any, key: Any) -> bool:
    try:
        look_up(key)
    except KeyError:
        return False
    return True


def _free_name(wanted: str) -> str:
    """``wanted``, or a name made from it that this machine does not know: no local account is ever borrowed."""
    name, number = wanted, 1
    while _known(pwd.getpwnam, name) or _known(grp.getgrnam, name):
        name, number = f"demo-{wanted}" if number == 1 else f"demo-{wanted}{number}", number + 1
    return name


def cast(homes: Path, *, shared_uid: tuple[int, int] | None) -> Site:
    """Choose names, ids and passwords. ``shared_uid``: everybody runs as this uid and gid (demo without root)."""
    ids = _free_ids(len(CAST) + len(GROUPS))
    gids = {_free_name(group): next(ids) for group in GROUPS}
    names = dict(zip(GROUPS, gids, strict=True))
    people = []
    for wanted, display_name, groups, special in CAST:
        name, uid = _free_name(wanted), next(ids)
        gid = gids[names[groups[0]]]
        if shared_uid:
            uid, gid = shared_uid
        groups = tuple(names[g] for g in groups)
        home, password = str(homes / name), f"{wanted}-{secrets.token_hex(4)}"
        people.append(Person(name, display_name, groups, uid, gid, home, password, **special))
    return Site(tuple(people), gids, secrets.token_urlsafe(24))


def _uuid(dn: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_X500, dn))


def _entry(dn: str, attributes: dict[str, Any], **more: Any) -> Entry:
    whole = {k: v if isinstance(v, tuple) else (str(v),) for k, v in attributes.items()}
    return Entry(dn, {**whole, "entryUUID": (_uuid(dn),), "entryDN": (dn,)}, **more)


def person_dn(person: Person) -> str:
    """The person's entry."""
    return f"uid={person.name},ou=people,{BASE}"


def entries(site: Site) -> Sequence[Entry]:
    """The whole directory."""
    tops = [_entry(BASE, {"objectClass": ("top", "domain"), "dc": "demo"})]
    for unit in ("people", "groups", "services"):
        tops.append(_entry(f"ou={unit},{BASE}", {"objectClass": ("top", "organizationalUnit"), "ou": unit}))
    service = {"objectClass": ("top", "applicationProcess", "simpleSecurityObject"), "cn": "daas-hub"}
    tops.append(_entry(SERVICE_DN, service, password=site.service_password))
    return [*tops, *map(_person_entry, site.people), *(_group_entry(site, g) for g in site.gids)]


def _person_entry(person: Person) -> Entry:
    attributes: dict[str, Any] = {
        "objectClass": ("top", "person", "organizationalPerson", "inetOrgPerson", "posixAccount"),
        "uid": person.name,
        "cn": person.display_name,
        "displayName": person.display_name,
        "givenName": person.display_name.split()[0],
        "sn": person.display_name.split()[-1],
        "mail": f"{person.name}@demo.example",
        "uidNumber": person.uid,
        "gidNumber": person.gid,
        "homeDirectory": person.home,
        "loginShell": "/bin/sh",
        "memberOf": tuple(f"cn={group},ou=groups,{BASE}" for group in person.groups),
    }
    if person.locked:
        attributes["pwdAccountLockedTime"] = "000001010000Z"
    return _entry(person_dn(person), attributes, password=person.password, locked=person.locked)


def _group_entry(site: Site, group: str) -> Entry:
    members = [p for p in site.people if group in p.groups]
    attributes = {
        "objectClass": ("top", "posixGroup", "groupOfMembers"),
        "cn": group,
        "gidNumber": site.gids[group],
        "memberUid": tuple(p.name for p in members),
        "member": tuple(person_dn(p) for p in members),
    }
    return _entry(f"cn={group},ou=groups,{BASE}", attributes)


def subjects(site: Site) -> dict[str, tuple[str, str]]:
    """Name → identity key, as the sign-in will see it: issuer and entryUUID."""
    return {person.name: (ISSUER, _uuid(person_dn(person))) for person in site.people}
