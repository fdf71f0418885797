"""``balance``: what the active launches of each scope hold. Changed only in the transaction of the row they sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, select, update

from daas_hub.core.quota import Amounts

from .engine import insert
from .schema import balance, launch_scope

_COUNTED = (balance.c.servers, balance.c.cores_m, balance.c.memory_bytes, balance.c.gpus)
_READ = select(balance.c.scope, *_COUNTED).where(balance.c.scope.in_(bindparam("scopes", expanding=True)))
# Everybody locks in this order, so nobody can wait for somebody who waits for her.
_LOCK = _READ.order_by(balance.c.scope).with_for_update()
_ADD = (
    update(balance)
    .where(balance.c.scope == bindparam("b_scope"))
    .values(
        servers=balance.c.servers + bindparam("b_servers"),
        cores_m=balance.c.cores_m + bindparam("b_cores"),
        memory_bytes=balance.c.memory_bytes + bindparam("b_memory"),
        gpus=balance.c.gpus + bindparam("b_gpus"),
    )
)
_SCOPES = select(launch_scope.c.scope).where(launch_scope.c.launch_id == bindparam("id")).order_by(launch_scope.c.scope)


def read(c: Connection, scopes: Sequence[str]) -> dict[str, Amounts]:
    """The balances of ``scopes``; one that is missing holds nothing."""
    return {row[0]: Amounts(*row[1:]) for row in c.execute(_READ, {"scopes": list(scopes)})}


def lock(c: Connection, scopes: Sequence[str]) -> dict[str, Amounts]:
    """The same, locked until the transaction ends; rows that are missing are made."""
    found = {row[0]: Amounts(*row[1:]) for row in c.execute(_LOCK, {"scopes": list(scopes)})}
    missing = sorted(set(scopes) - set(found))
    if not missing:
        return found
    empty = [{"scope": s, "servers": 0, "cores_m": 0, "memory_bytes": 0, "gpus": 0} for s in missing]
    c.execute(insert(c, balance).on_conflict_do_nothing(), empty)
    return {row[0]: Amounts(*row[1:]) for row in c.execute(_LOCK, {"scopes": list(scopes)})}


def add(c: Connection, scopes: Sequence[str], counted: Amounts, times: int = 1) -> None:
    """Add ``times`` × ``counted`` to each scope, in sorted order. The rows exist: ``lock`` made them."""
    delta = {
        "b_servers": times * counted.servers,
        "b_cores": times * counted.cores,
        "b_memory": times * counted.memory_bytes,
        "b_gpus": times * counted.gpus,
    }
    c.execute(_ADD, [{"b_scope": scope, **delta} for scope in sorted(scopes)])


def scopes_of(c: Connection, launch_id: str) -> list[str]:
    """What a launch counts against, sorted."""
    return list(c.execute(_SCOPES, {"id": launch_id}).scalars())


def to_columns(counted: Amounts) -> Mapping[str, int]:
    """Amounts as the columns that every counted table has."""
    return dict(zip(("servers", "cores_m", "memory_bytes", "gpus"), counted, strict=True))
