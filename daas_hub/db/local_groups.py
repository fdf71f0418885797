"""Groups that this hub keeps itself: members by account, every change audited; and what the directory's are called."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.groups import SiteGroups, may_be_local, require_free, runs

from . import audit
from .engine import Database
from .engine import insert as upsert
from .schema import accounts, links, project_members, projects
from .schema_groups import directory_groups, local_group_members, local_groups
from .types import clean


@dataclass(frozen=True)
class LocalGroup:
    """One group of this hub."""

    name: str
    description: str
    made_by: str
    made_at: datetime
    members: tuple[str, ...] = ()
    """Account ids, sorted."""


@dataclass(frozen=True)
class DirectoryGroup:
    """A group of which a member has signed in."""

    name: str
    issuer: str
    seen_at: datetime
    """When it was first seen."""


class LocalGroups:
    """The local groups of a ledger. Every change writes an audit row in the same transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, name: str, description: str = "", *, by: str, now: datetime, why: str = "") -> LocalGroup:
        """Make a group without members. Raises InvalidOptions for a name that is none, or is taken."""
        return self._db.write(_create, name, description, by, now, why)

    def delete(self, name: str, *, by: str, now: datetime, why: str = "") -> None:
        """Delete a group with all its memberships. Raises NotFound."""
        self._db.write(_delete, name, by, now, why)

    def get(self, name: str) -> LocalGroup | None:
        """The group of this name."""
        return self._db.read(_get, name)

    def list(self) -> builtins.list[LocalGroup]:
        """All groups, by name."""
        return self._db.read(_list)

    def add_member(self, name: str, account_id: str, *, by: str, now: datetime, why: str = "") -> None:
        """Make an account a member; idempotent. Raises NotFound: no such group, or no such account."""
        self._db.write(_member, name, account_id, by, now, why, True)

    def remove_member(self, name: str, account_id: str, *, by: str, now: datetime, why: str = "") -> None:
        """End a membership; idempotent. Raises NotFound."""
        self._db.write(_member, name, account_id, by, now, why, False)

    # ------------------------------------------------------------ at a sign-in and a refresh

    def of_identity(self, issuer: str, subject: str, directory: Collection[str], now: datetime) -> SiteGroups:
        """The groups of whoever has this identity, and which of the ``directory``'s names local groups have.

        Who has no account yet is in none. Reads only.
        """
        return self._db.read(_of_identity, issuer, subject, tuple(directory), now)

    def note_directory(self, issuer: str, names: Collection[str], now: datetime) -> None:
        """Remember names of groups of the directory; those that are known cost one read."""
        wanted = tuple(sorted({clean(name) for name in names}))
        if set(wanted) - self._db.read(_seen, wanted):
            self._db.write(_note, issuer, wanted, now)

    def directory(self) -> builtins.list[DirectoryGroup]:
        """All groups of the directory that were ever seen here, by name."""
        query = select(directory_groups).order_by(directory_groups.c.name)
        return self._db.read(lambda c: [DirectoryGroup(**row._mapping) for row in c.execute(query)])


def _members(c: Connection, name: str) -> tuple[str, ...]:
    query = select(local_group_members.c.account_id).where(local_group_members.c.group_name == name)
    return tuple(c.execute(query.order_by(local_group_members.c.account_id)).scalars())


def _group(c: Connection, row: Row[Any]) -> LocalGroup:
    return LocalGroup(**row._mapping, members=_members(c, row.name))


def _list(c: Connection) -> list[LocalGroup]:
    return [_group(c, row) for row in c.execute(select(local_groups).order_by(local_groups.c.name)).all()]


def _get(c: Connection, name: str) -> LocalGroup | None:
    row = c.execute(select(local_groups).where(local_groups.c.name == name)).one_or_none()
    return None if row is None else _group(c, row)


def _locked(c: Connection, name: str) -> LocalGroup:
    """The group, held against whoever deletes it meanwhile. Raises NotFound."""
    row = c.execute(select(local_groups).where(local_groups.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"There is no local group {name[:80]!r}.")
    return _group(c, row)


def _create(c: Connection, name: str, description: str, by: str, now: datetime, why: str) -> LocalGroup:
    require_free(
        name,
        local=c.execute(select(local_groups.c.name)).scalars().all(),
        projects=c.execute(select(projects.c.slug)).scalars().all(),
        directory=c.execute(select(directory_groups.c.name)).scalars().all(),
    )
    row: dict[str, Any] = {"name": name, "description": description, "made_by": by, "made_at": now}
    statement = upsert(c, local_groups).values(**row).on_conflict_do_nothing()
    made = c.execute(statement, execution_options={"preserve_rowcount": True})
    if made.rowcount != 1:
        # Somebody else made it between our question and our answer.
        raise InvalidOptions(f"name: {name!r} is a local group already. Give another name.", field="name")
    subject, new = f"local_group:{name}", {"description": description}
    audit.write(c, at=now, who=by, action="local_group_create", subject=subject, new=new, why=why)
    return LocalGroup(**row)


def _delete(c: Connection, name: str, by: str, now: datetime, why: str) -> None:
    old = _locked(c, name)
    c.execute(delete(local_group_members).where(local_group_members.c.group_name == name))
    c.execute(delete(local_groups).where(local_groups.c.name == name))
    before = {"description": old.description, "members": list(old.members)}
    subject = f"local_group:{name}"
    audit.write(c, at=now, who=by, action="local_group_delete", subject=subject, old=before, why=why)


def _member(c: Connection, name: str, account_id: str, by: str, now: datetime, why: str, present: bool) -> None:
    group = _locked(c, name)
    if c.execute(select(accounts.c.id).where(accounts.c.id == account_id)).one_or_none() is None:
        raise NotFound(f"There is no account {account_id[:80]!r}.")
    if (account_id in group.members) is present:
        return
    if present:
        c.execute(insert(local_group_members).values(group_name=name, account_id=account_id, added_at=now))
    else:
        hers = (local_group_members.c.group_name == name, local_group_members.c.account_id == account_id)
        c.execute(delete(local_group_members).where(*hers))
    action, fact = f"local_group_member_{'add' if present else 'remove'}", {"account_id": account_id}
    change = {"new": fact} if present else {"old": fact}
    audit.write(c, at=now, who=by, action=action, subject=f"local_group:{name}", why=why, **change)


def _of_identity(c: Connection, issuer: str, subject: str, directory: tuple[str, ...], now: datetime) -> SiteGroups:
    hers = select(links.c.account_id).where(links.c.issuer == issuer, links.c.subject == subject).scalar_subquery()
    local = select(local_group_members.c.group_name).where(local_group_members.c.account_id == hers)
    dates = (projects.c.slug, projects.c.starts_at, projects.c.ends_at)
    mine = select(*dates).join(project_members, project_members.c.project_id == projects.c.id)
    running = c.execute(mine.where(project_members.c.account_id == hers)).all()
    told = [name for name in directory if may_be_local(name)]
    taken = c.execute(select(local_groups.c.name).where(local_groups.c.name.in_(told))).scalars()
    return SiteGroups(
        local=tuple(sorted(c.execute(local).scalars())),
        projects=tuple(sorted(row.slug for row in running if runs(row.starts_at, row.ends_at, now))),
        taken=frozenset(taken),
    )


def _seen(c: Connection, names: tuple[str, ...]) -> set[str]:
    return set(c.execute(select(directory_groups.c.name).where(directory_groups.c.name.in_(names))).scalars())


def _note(c: Connection, issuer: str, names: tuple[str, ...], now: datetime) -> None:
    for name in names:
        row = {"name": name, "issuer": issuer, "seen_at": now}
        c.execute(upsert(c, directory_groups).values(**row).on_conflict_do_nothing())
