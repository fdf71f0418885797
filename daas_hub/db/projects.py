"""Projects: a slug, a gid for their data, members and dates."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.models import Json
from daas_hub.core.naming import MAX_NAME, new_id, safe_name

from . import audit
from .engine import Database
from .engine import insert as upsert
from .schema import project_members, projects
from .schema_groups import local_groups


@dataclass(frozen=True)
class Project:
    """One project. Dates are half open: it runs from ``starts_at`` until before ``ends_at``; None is unbounded."""

    id: str
    slug: str
    gid: int | None
    title: str
    starts_at: datetime | None
    ends_at: datetime | None
    created_at: datetime
    members: tuple[str, ...] = ()
    """Account ids, sorted."""


class Projects:
    """The projects of a ledger. Every change is audited in its own transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def set(
        self,
        slug: str,
        *,
        by: str,
        now: datetime,
        gid: int | None = None,
        title: str = "",
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
    ) -> Project:
        """Make or change the project of this slug; the id stays. Raises InvalidOptions for a slug that is no name,
        or is a local group's."""
        if not slug or safe_name(slug, limit=MAX_NAME) != slug:
            message = f"{slug[:80]!r} is not a project's name: lower-case letters, digits and hyphens, at most 63."
            raise InvalidOptions(message, field="slug")
        values = {"gid": gid, "title": title, "starts_at": starts_at, "ends_at": ends_at}
        return self._db.write(_set, slug, values, by, now)

    def get(self, slug: str) -> Project | None:
        """The project of this slug."""
        return self._db.read(_get, slug)

    def list(self, *, account_id: str | None = None) -> builtins.list[Project]:
        """All projects, or those that an account is a member of, by slug."""
        return self._db.read(_list, account_id)

    def add_member(self, slug: str, account_id: str, *, by: str, now: datetime) -> None:
        """Make an account a member; idempotent. Raises NotFound."""
        self._db.write(_member, slug, account_id, by, now, True)

    def remove_member(self, slug: str, account_id: str, *, by: str, now: datetime) -> None:
        """End a membership; idempotent. Raises NotFound."""
        self._db.write(_member, slug, account_id, by, now, False)


def _project(c: Connection, row: Row[Any]) -> Project:
    query = select(project_members.c.account_id).where(project_members.c.project_id == row.id)
    members = c.execute(query.order_by(project_members.c.account_id)).scalars()
    return Project(**row._mapping, members=tuple(members))


def _get(c: Connection, slug: str) -> Project | None:
    row = c.execute(select(projects).where(projects.c.slug == slug)).one_or_none()
    return None if row is None else _project(c, row)


def _require(c: Connection, slug: str) -> Project:
    found = _get(c, slug)
    if found is None:
        raise NotFound(f"There is no project {slug!r}.")
    return found


def _list(c: Connection, account_id: str | None) -> list[Project]:
    query = select(projects).order_by(projects.c.slug)
    if account_id is not None:
        mine = select(project_members.c.project_id).where(project_members.c.account_id == account_id)
        query = query.where(projects.c.id.in_(mine))
    return [_project(c, row) for row in c.execute(query).all()]


def _set(c: Connection, slug: str, values: dict[str, Any], by: str, now: datetime) -> Project:
    old = _get(c, slug)
    if old is None:
        if c.execute(select(local_groups.c.name).where(local_groups.c.name == slug)).one_or_none() is not None:
            raise InvalidOptions(f"slug: {slug!r} is a local group of this hub. Give another name.", field="slug")
        c.execute(insert(projects).values(id=new_id(), slug=slug, created_at=now, **values))
    else:
        c.execute(update(projects).where(projects.c.id == old.id).values(**values))
    new = _require(c, slug)
    before = None if old is None else _json(old)
    audit.write(c, at=now, who=by, action="project_set", subject=f"project:{slug}", old=before, new=_json(new))
    return new


def _member(c: Connection, slug: str, account_id: str, by: str, now: datetime, present: bool) -> None:
    project = _require(c, slug)
    if (account_id in project.members) is present:
        return
    if present:
        row = {"project_id": project.id, "account_id": account_id, "added_at": now}
        c.execute(upsert(c, project_members).values(**row).on_conflict_do_nothing())
    else:
        mine = (project_members.c.project_id == project.id, project_members.c.account_id == account_id)
        c.execute(delete(project_members).where(*mine))
    action = "project_member_add" if present else "project_member_remove"
    audit.write(c, at=now, who=by, action=action, subject=f"project:{slug}", new={"account_id": account_id})


def _json(project: Project) -> Json:
    dates = {"starts_at": project.starts_at, "ends_at": project.ends_at}
    return {"gid": project.gid, "title": project.title, **{k: v and v.isoformat() for k, v in dates.items()}}
