"""Rows of volumes: what exists where, for whom, and in which state. What is done with them is decided in core."""

from __future__ import annotations

import builtins
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, literal, select, tuple_, update

from daas_hub.core.errors import NotFound
from daas_hub.core.models import Json
from daas_hub.core.naming import new_id, shared_id

from .engine import Database
from .engine import insert as upsert
from .rows import Place
from .schema import accounts, project_members, projects, volumes


class VolumeState(StrEnum):
    """A volume is kept before it is expired; nothing is deleted at once."""

    IN_USE = "in_use"
    RETAINED = "retained"
    EXPIRED = "expired"


_IN_USE_AGAIN = {"state": VolumeState.IN_USE.value, "retained_at": None, "expires_at": None}
# Built once: to build a statement anew costs more than to run it, and every start runs these.
_TAKE_BACK = update(volumes).where(
    volumes.c.account_id == bindparam("b_id"), volumes.c.state == VolumeState.RETAINED.value
)
_HELD = select(accounts.c.id).where(accounts.c.id == bindparam("b_id")).with_for_update()
_NAMED = select(volumes).where(volumes.c.name == bindparam("b_name"), volumes.c.backend == bindparam("b_backend"))
_HERS = _NAMED.where(volumes.c.account_id == bindparam("b_account"))
_EVERYBODYS = _NAMED.where(volumes.c.account_id.is_(None))
_OF_GID = select(projects.c.id).where(projects.c.gid == bindparam("b_gid"))


@dataclass(frozen=True)
class Volume:
    """One volume. ``place`` is versioned JSON: a path, or a claim's name and namespace."""

    id: str
    account_id: str | None
    project_id: str | None
    name: str
    backend: str
    place: Json
    state: VolumeState
    created_at: datetime
    retained_at: datetime | None
    expires_at: datetime | None
    made: Json | None = None
    """What the backend says it made (a claim, a disk); None: nothing yet, or a folder that needs no record."""


class Volumes:
    """The volumes of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        name: str,
        backend: str,
        place: Json,
        *,
        now: datetime,
        account_id: str | None = None,
        project_id: str | None = None,
    ) -> Volume:
        """Write down a new volume, before it is made."""
        values = {"name": name, "backend": backend, "place": place, "account_id": account_id, "project_id": project_id}
        row = dict(id=new_id(), state=VolumeState.IN_USE.value, created_at=now, **values)
        self._db.write(lambda c: c.execute(insert(volumes).values(**row)) and None)
        return self.get(str(row["id"]))

    def ensure(
        self,
        name: str,
        backend: str,
        place: Json,
        *,
        now: datetime,
        account_id: str | None,
        group_gid: int | None = None,
    ) -> Volume:
        """An account's volume of that name and place on that backend; written down where it is new.

        None: everybody's. ``group_gid``: of the group whose volume it is; where a project has that gid it is the
        project's, also where that was entered later. One transaction, so that two servers which start at once find
        one home. A retained one is in use again; one that expired is gone and not found.
        """

        def find_or_add(c: Connection) -> Volume:
            # PostgreSQL: two starts of one account wait for each other here. SQLite has one writer anyway.
            c.execute(_HELD, {"b_id": account_id})
            project_id = project_of(c, group_gid)
            which = {"b_name": name, "b_backend": backend}
            if account_id is None:
                there = c.execute(_EVERYBODYS, which).all()
            else:
                there = c.execute(_HERS, {"b_account": account_id, **which}).all()
            for row in there:
                found = _volume(row)
                if found.place != place or found.state is VolumeState.EXPIRED:
                    continue
                changed: dict[str, Any] = {}
                if found.project_id is None and project_id is not None:
                    changed["project_id"] = project_id
                if found.state is VolumeState.RETAINED:
                    changed |= _IN_USE_AGAIN
                if changed:
                    c.execute(update(volumes).where(volumes.c.id == found.id).values(**changed))
                    return _one(c, found.id)
                return found
            values = {"name": name, "backend": backend, "place": place, "account_id": account_id}
            fresh = {"state": VolumeState.IN_USE.value, "created_at": now, "project_id": project_id}
            new = {"id": _id_of(values), **fresh, **values}
            added = upsert(c, volumes).values(**new)
            # What is everybody's has no account's row to wait at; whoever comes second finds it made.
            c.execute(added.on_conflict_do_nothing(index_elements=["id"]))
            return _one(c, str(new["id"]))

        return self._db.write(find_or_add)

    def retain(self, user_name: str, *, now: datetime, expires_at: datetime | None) -> builtins.list[str]:
        """The user of this name is gone: her account's volumes are kept until then, or for ever. Their ids."""

        def change(c: Connection) -> builtins.list[str]:
            hers = volumes.c.account_id.in_(select(accounts.c.id).where(accounts.c.user_name == user_name))
            query = select(volumes.c.id).where(hers, volumes.c.state == VolumeState.IN_USE.value)
            ids = [str(volume_id) for volume_id in c.execute(query).scalars()]
            values = {"state": VolumeState.RETAINED.value, "retained_at": now, "expires_at": expires_at}
            c.execute(update(volumes).where(volumes.c.id.in_(ids)).values(**values))
            return ids

        return self._db.write(change)

    def due(self, now: datetime) -> builtins.list[Volume]:
        """Retained volumes whose time is over, and expired ones that are not removed yet; oldest first."""
        over = (volumes.c.state == VolumeState.RETAINED.value) & (volumes.c.expires_at <= now)
        found = self._select(over | (volumes.c.state == VolumeState.EXPIRED.value))
        return [row for row in found if row.state is VolumeState.RETAINED or not (row.made or {}).get("removed_at")]

    def expire(self, volume_id: str, *, now: datetime) -> bool:
        """Take a retained volume whose time is over out of every later start; False where it is in use again."""

        def change(c: Connection) -> bool:
            query = select(volumes.c.state, volumes.c.expires_at).where(volumes.c.id == volume_id).with_for_update()
            state, expires_at = c.execute(query).one()
            if state == VolumeState.EXPIRED:
                return True
            if state != VolumeState.RETAINED or expires_at is None or expires_at > now:
                return False
            c.execute(update(volumes).where(volumes.c.id == volume_id).values(state=VolumeState.EXPIRED.value))
            return True

        return self._db.write(change)

    def record_made(self, volume_id: str, made: Json) -> None:
        """Write down what a backend made of a volume, or learnt of it since; keys that are there are replaced."""

        def merge(c: Connection) -> None:
            query = select(volumes.c.made).where(volumes.c.id == volume_id).with_for_update()
            merged = {**(c.execute(query).scalar() or {}), **made}
            c.execute(update(volumes).where(volumes.c.id == volume_id).values(made=merged))

        self._db.write(merge)

    def get(self, volume_id: str) -> Volume:
        """One volume; raises NotFound."""
        found = self._select(volumes.c.id == volume_id)
        if not found:
            raise NotFound(f"There is no volume {volume_id}.")
        return found[0]

    def list(self, *, account_id: str | None = None, state: VolumeState | None = None) -> builtins.list[Volume]:
        """Volumes by age, oldest first."""
        wanted = []
        if account_id is not None:
            wanted.append(volumes.c.account_id == account_id)
        if state is not None:
            wanted.append(volumes.c.state == state.value)
        return self._select(*wanted)

    def page(
        self,
        *,
        account_id: str | None = None,
        state: VolumeState | None = None,
        growth: str = "",
        limit: int = 50,
        before: Place | None = None,
    ) -> builtins.list[tuple[Volume, str | None]]:
        """Volumes, newest first, each with its project's slug; ``before``: the last one of the page before."""
        wanted = [] if account_id is None else [volumes.c.account_id == account_id]
        if state is not None:
            wanted.append(volumes.c.state == state.value)
        if growth:
            wanted.append(volumes.c.made["growth"]["state"].as_string() == growth)
        if before is not None:
            place = literal(before.created_at, volumes.c.created_at.type), literal(before.id, volumes.c.id.type)
            wanted.append(tuple_(volumes.c.created_at, volumes.c.id) < tuple_(*place))
        newest_first = volumes.c.created_at.desc(), volumes.c.id.desc()
        query = _with_project().where(*wanted).order_by(*newest_first).limit(limit)
        return self._db.read(lambda c: [_with_slug(row) for row in c.execute(query)])

    def seen_by(self, account_id: str) -> builtins.list[tuple[Volume, str | None]]:
        """The volumes of an account and of the projects that it is a member of, by name, each with its project."""
        member = select(project_members.c.project_id).where(project_members.c.account_id == account_id)
        hers = (volumes.c.account_id == account_id) | (
            volumes.c.account_id.is_(None) & volumes.c.project_id.in_(member)
        )
        query = _with_project().where(hers).order_by(volumes.c.name, volumes.c.created_at, volumes.c.id)
        return self._db.read(lambda c: [_with_slug(row) for row in c.execute(query)])

    def set_state(
        self, volume_id: str, state: VolumeState, *, now: datetime, expires_at: datetime | None = None
    ) -> Volume:
        """Retain, expire or take back into use; raises NotFound."""
        retained_at = now if state is VolumeState.RETAINED else None
        values = {"state": state.value, "retained_at": retained_at, "expires_at": expires_at}
        self._db.write(lambda c: c.execute(update(volumes).where(volumes.c.id == volume_id).values(**values)) and None)
        return self.get(volume_id)

    def _select(self, *wanted: object) -> builtins.list[Volume]:
        query = select(volumes).where(*wanted).order_by(volumes.c.created_at, volumes.c.id)  # type: ignore[arg-type]
        return self._db.read(lambda c: [_volume(row) for row in c.execute(query)])


def _volume(row: Row[Any]) -> Volume:
    return Volume(**{**row._mapping, "state": VolumeState(row.state)})


def _one(c: Connection, volume_id: str) -> Volume:
    return _volume(c.execute(select(volumes).where(volumes.c.id == volume_id)).one())


def _with_project() -> Select[Any]:
    joined = volumes.outerjoin(projects, projects.c.id == volumes.c.project_id)
    return select(volumes, projects.c.slug).select_from(joined)


def _with_slug(row: Row[Any]) -> tuple[Volume, str | None]:
    values = {**row._mapping, "state": VolumeState(row.state)}
    slug = values.pop("slug")
    return Volume(**values), slug


def take_back(c: Connection, account_id: str) -> None:
    """The account has a user again: what was retained of it is in use, in the caller's transaction."""
    c.execute(_TAKE_BACK, {"b_id": account_id, **_IN_USE_AGAIN})


def project_of(c: Connection, gid: int | None) -> str | None:
    """The project whose data has this gid; two never have the same. By its gid alone: names are labels."""
    if gid is None:
        return None
    return c.execute(_OF_GID, {"b_gid": gid}).scalar()


def _id_of(values: Json) -> str:
    """A fresh id for an account's volume; for everybody's always the same one."""
    if values["account_id"] is not None:
        return new_id()
    return shared_id(values["name"], values["backend"], json.dumps(values["place"], sort_keys=True))
