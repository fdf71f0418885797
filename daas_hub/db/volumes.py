"""Rows of volumes: what exists where, for whom, and in which state. What is done with them is decided in core."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select, update

from daas_hub.core.errors import NotFound
from daas_hub.core.models import Json
from daas_hub.core.naming import new_id

from .engine import Database
from .schema import accounts, volumes


class VolumeState(StrEnum):
    """A volume is kept before it is expired; nothing is deleted at once."""

    IN_USE = "in_use"
    RETAINED = "retained"
    EXPIRED = "expired"


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

    def ensure(self, name: str, backend: str, place: Json, *, now: datetime, account_id: str) -> Volume:
        """An account's volume of that name and place on that backend; written down where it is new.

        One transaction, so that two servers which start at once find one home.
        """

        def find_or_add(c: Connection) -> str:
            # PostgreSQL: two starts of one account wait for each other here. SQLite has one writer anyway.
            c.execute(select(accounts.c.id).where(accounts.c.id == account_id).with_for_update())
            query = select(volumes.c.id, volumes.c.place).where(
                volumes.c.account_id == account_id, volumes.c.name == name, volumes.c.backend == backend
            )
            for volume_id, there in c.execute(query):
                if there == place:
                    return str(volume_id)
            values = {"name": name, "backend": backend, "place": place, "account_id": account_id}
            row = dict(id=new_id(), state=VolumeState.IN_USE.value, created_at=now, project_id=None, **values)
            c.execute(insert(volumes).values(**row))
            return str(row["id"])

        return self.get(self._db.write(find_or_add))

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
        return self._db.read(
            lambda c: [Volume(**{**row._mapping, "state": VolumeState(row.state)}) for row in c.execute(query)]
        )
