"""The rules on use: read, set, delete, and what they mean for one person now."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from daas_hub.core import quota
from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.models import Json, Limit, Resource, Who
from daas_hub.core.quota import Amounts

from . import audit, balances
from .admission import applying, limit_of
from .engine import Database
from .schema import balance, limits, projects

MAX_AMOUNT = 2**62
"""What the tables can hold."""


@dataclass(frozen=True)
class Effective:
    """A limit that applies to somebody, with what counts against it now, in the unit of its resource."""

    limit: Limit
    used: float

    @property
    def left(self) -> float:
        """What is still free; 0 where it is overdrawn."""
        return max(0.0, self.limit.amount - self.used)


class Limits:
    """The limits of a ledger. Every change writes an audit row in the same transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def list(self) -> builtins.list[Limit]:
        """All limits, in the order of their ids."""
        query = select(limits).order_by(limits.c.id)
        return self._db.read(lambda c: [limit_of(row) for row in c.execute(query)])

    def set(
        self, who: Who, name: str, resource: Resource, amount: float, by: str, now: datetime, note: str = ""
    ) -> Limit:
        """Set the limit of (who, name, resource); an existing one is changed and keeps its id.

        ``amount`` is in the resource's unit (servers, cores, bytes, GPUs); 0 forbids. Cores are kept in thousandths.
        ``name`` is the group, the project's slug or the account's id; empty for ``default-each`` and only there.
        Raises InvalidOptions.
        """
        if (who is Who.DEFAULT_EACH) != (name == ""):
            raise InvalidOptions(f"A limit {who} needs {'no' if name else 'a'} name; given was {name!r}.", field="name")
        if not 0 <= amount <= MAX_AMOUNT / quota.MILLI:
            raise InvalidOptions(f"The amount must be 0 or more; given was {amount!r}.", field="amount")
        if not quota.storable(resource, amount):
            raise InvalidOptions(f"The amount must be {quota.step(resource)}; given was {amount!r}.", field="amount")
        return self._db.write(_set, who, name, resource, amount, by, now, note)

    def delete(self, id: int, by: str, now: datetime, note: str = "") -> None:
        """Remove a limit: what it limited is unlimited, or follows the next rule. Raises NotFound."""
        self._db.write(_delete, id, by, now, note)

    def effective(
        self, account_id: str, groups: Sequence[str], project: str | None = None, *, now: datetime | None = None
    ) -> builtins.list[Effective]:
        """What applies to a person, with what is used. Without ``now``, rows with dates are left out."""
        return self._db.read(_effective, account_id, tuple(groups), project, now)

    def name_seen(self, who: Who, name: str) -> bool:
        """True where a launch of this group or project was ever admitted, a limit is set for it, or it is a project."""
        return self._db.read(_name_seen, who, name)

    def limited_resources(self) -> builtins.set[Resource]:
        """Resources on which any limit on use at once exists: every profile must say how much of them it takes."""
        query = select(limits.c.resource).where(limits.c.window_s == 0).distinct()
        return self._db.read(lambda c: {Resource(name) for name in c.execute(query).scalars()})


def _set(
    c: Connection, who: Who, name: str, resource: Resource, amount: float, by: str, now: datetime, note: str
) -> Limit:
    rule = {"who": who.value, "name": name, "resource": resource.value}
    same = [limits.c[key] == value for key, value in rule.items()]
    plain = [limits.c.selector == "", limits.c.window_s == 0, limits.c.starts_at.is_(None), limits.c.ends_at.is_(None)]
    old = c.execute(select(limits).where(*same, *plain).with_for_update()).one_or_none()
    values = {"amount": quota.whole(resource, amount, up=False), "note": note, "set_by": by, "set_at": now}
    if old is None:
        key = c.execute(insert(limits).values(**rule, **values)).inserted_primary_key
        assert key is not None  # noqa: S101  the table has one
        limit_id = key[0]
    else:
        limit_id = old.id
        c.execute(update(limits).where(limits.c.id == limit_id).values(**values))
    new = limit_of(c.execute(select(limits).where(limits.c.id == limit_id)).one())
    before = None if old is None else _json(limit_of(old))
    audit.write(
        c, at=now, who=by, action="limit_set", subject=f"limit:{limit_id}", old=before, new=_json(new), why=note
    )
    return new


def _name_seen(c: Connection, who: Who, name: str) -> bool:
    project = who is Who.PROJECT_TOTAL
    kinds = [Who.PROJECT_TOTAL.value] if project else [Who.GROUP_EACH.value, Who.GROUP_TOTAL.value]
    queries = [
        select(balance.c.scope).where(balance.c.scope == f"{'project' if project else 'group'}:{name}"),
        select(limits.c.id).where(limits.c.who.in_(kinds), limits.c.name == name),
        *([select(projects.c.id).where(projects.c.slug == name)] if project else []),
    ]
    return any(c.execute(query.limit(1)).first() is not None for query in queries)


def _delete(c: Connection, limit_id: int, by: str, now: datetime, note: str) -> None:
    old = c.execute(select(limits).where(limits.c.id == limit_id).with_for_update()).one_or_none()
    if old is None:
        raise NotFound("There is no such limit.")
    c.execute(delete(limits).where(limits.c.id == limit_id))
    subject = f"limit:{limit_id}"
    audit.write(c, at=now, who=by, action="limit_delete", subject=subject, old=_json(limit_of(old)), why=note)


def _effective(
    c: Connection, account_id: str, groups: Sequence[str], project: str | None, now: datetime | None
) -> builtins.list[Effective]:
    used = balances.read(c, quota.scopes(account_id, groups, project))
    lines = []
    for limit in applying(c, account_id, groups, project, now):
        held = used.get(quota.scope_of(limit, account_id), Amounts()).of(limit.resource)
        lines.append(Effective(limit, quota.plain(limit.resource, held)))
    return lines


def _json(limit: Limit) -> Json:
    return {
        "who": limit.who.value,
        "name": limit.name,
        "resource": limit.resource.value,
        "amount": limit.amount,
    }
