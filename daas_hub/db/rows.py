"""What the ledger takes and gives for a launch: frozen values, and how they lie in the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, select

from daas_hub.core.models import Charge, Handle, Json, LaunchState, Life, Target
from daas_hub.core.quota import MILLI, amounts

from .schema import launch, launch_scope


@dataclass(frozen=True)
class Reservation:
    """What a start asks of the ledger. ``groups`` and ``project`` are frozen as the launch's scopes."""

    launch_id: str
    hub_boot_id: str
    account_id: str
    user_name: str
    server_name: str
    groups: tuple[str, ...]
    project: str | None
    profile: str
    charge: Charge
    backend: str
    request: Json
    api_token_encrypted: bytes | None
    source: str
    """Who asks: ``hub``, later ``api``, ``batch``."""


class Place(NamedTuple):
    """Where a launch stands in the order of all launches: by time, and within one instant by id."""

    created_at: datetime
    id: str


@dataclass(frozen=True)
class LaunchRow:
    """One launch as the ledger has it. Times are aware UTC."""

    id: str
    account_id: str
    user_name: str
    server_name: str
    profile: str
    backend: str
    state: LaunchState
    target: Target
    hub_boot_id: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stopping_since: datetime | None
    observed: Life | None
    observed_at: datetime | None
    handle: Handle | None
    request: Json
    charge: Charge
    api_token_encrypted: bytes | None
    exit_code: int | None
    reason: str
    target_reason: str
    target_by: str
    groups: tuple[str, ...]
    project: str | None
    heartbeat_at: datetime | None = None
    observed_reason: str = ""
    evidence: str = ""
    """How its end is known."""
    ends_at: datetime | None = None
    """When its place will end it because its time there is over, as far as that is known."""

    @property
    def place(self) -> Place:
        """For the page after this launch: ``Ledger.launches(before=…)``."""
        return Place(self.created_at, self.id)


@dataclass(frozen=True)
class Kept:
    """What is large or seldom asked for of a launch, and so not part of its row. None: nothing was kept."""

    log: str | None = None
    """The last lines of its log, without secrets, where it failed."""
    software: Json | None = None
    """What it was made of, as its backend reported: versioned JSON."""
    image_digest: str | None = None


COLUMNS = [
    column
    for column in launch.c
    if column.name
    in {
        *(name for name in LaunchRow.__dataclass_fields__ if name not in {"charge", "groups", "project"}),
        *("servers", "cores_m", "memory_bytes", "gpus"),
    }
]
"""What a LaunchRow is made of, the scopes apart."""


# Built once: to build a statement anew costs more than to run it, and a start runs these several times.
_ALL = select(*COLUMNS)
_ONE = _ALL.where(launch.c.id == bindparam("b_id"))
_ONE_LOCKED = _ONE.with_for_update()
_SCOPES = select(launch_scope.c.scope).where(launch_scope.c.launch_id == bindparam("b_id"))


def charge_columns(charge: Charge) -> dict[str, int | None]:
    """A charge as the columns of ``launch``: unknown stays unknown."""
    counted = amounts(charge)
    return {
        "servers": counted.servers,
        "cores_m": None if charge.cores is None else counted.cores,
        "memory_bytes": charge.memory_bytes,
        "gpus": counted.gpus,
    }


def charge_of(row: Mapping[str, Any]) -> Charge:
    """The charge back from its columns."""
    cores_m = row["cores_m"]
    return Charge(
        cores=None if cores_m is None else cores_m / MILLI,
        memory_bytes=row["memory_bytes"],
        gpus=row["gpus"],
        servers=row["servers"],
    )


def load(c: Connection, query: Select[Any], values: Mapping[str, Any] | None = None) -> list[LaunchRow]:
    """The launches that a query on ``COLUMNS`` finds, with their scopes: two statements in all."""
    found = c.execute(query, values).all()
    scopes: dict[str, list[str]] = {row.id: [] for row in found}
    ids = list(scopes)
    for start in range(0, len(ids), 500):
        chunk = launch_scope.c.launch_id.in_(ids[start : start + 500])
        for launch_id, scope in c.execute(select(launch_scope.c.launch_id, launch_scope.c.scope).where(chunk)):
            scopes[launch_id].append(scope)
    return [from_row(row, scopes[row.id]) for row in found]


def load_one(c: Connection, launch_id: str, *, lock: bool = False) -> LaunchRow | None:
    """One launch, or None. ``lock`` holds its row against other writers (PostgreSQL; SQLite has one writer)."""
    row = c.execute(_ONE_LOCKED if lock else _ONE, {"b_id": launch_id}).one_or_none()
    if row is None:
        return None
    return from_row(row, c.execute(_SCOPES, {"b_id": launch_id}).scalars())


def load_these(c: Connection, ids: Collection[str], *, lock: bool = False) -> dict[str, LaunchRow]:
    """The launches of these ids, by id; what is not there is missing. ``lock`` as for one; in the order of ids, so
    that two who want the same do not wait for each other."""
    if len(ids) == 1:
        found = load_one(c, next(iter(ids)), lock=lock)
        return {} if found is None else {found.id: found}
    wanted, rows = sorted(set(ids)), []
    for start in range(0, len(wanted), 500):
        query = _ALL.where(launch.c.id.in_(wanted[start : start + 500])).order_by(launch.c.id)
        rows += load(c, query.with_for_update() if lock else query)
    return {row.id: row for row in rows}


def from_row(row: Row[Any], scopes: Iterable[str]) -> LaunchRow:
    """One row of ``COLUMNS`` and its scopes as a value."""
    values: dict[str, Any] = dict(row._mapping)
    charge = charge_of(values)
    for name in ("servers", "cores_m", "memory_bytes", "gpus"):
        del values[name]
    values["state"] = LaunchState(values["state"])
    values["target"] = Target(values["target"])
    values["observed"] = Life(values["observed"]) if values["observed"] else None
    groups, project = split_scopes(scopes)
    return LaunchRow(**values, charge=charge, groups=groups, project=project)


def split_scopes(scopes: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """Groups and project out of a launch's scopes."""
    kinds: Sequence[tuple[str, str]] = [(kind, name) for kind, _, name in (s.partition(":") for s in scopes)]
    projects = [name for kind, name in kinds if kind == "project"]
    return tuple(sorted(name for kind, name in kinds if kind == "group")), projects[0] if projects else None
