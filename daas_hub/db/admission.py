"""Reserve: one transaction that reads limits and balances, decides, and writes launch, scopes and balances.

PostgreSQL: the balances' rows are locked in sorted order first. Whoever starts the same server has the same user's
row in that set, so two of them come one after the other; what the second one could not see yet when it began to
wait, the unique index tells, and the transaction is run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from daas_hub.core import quota
from daas_hub.core.errors import IllegalMove, LaunchConflict, NotAllowed, NotFound, QuotaExceeded
from daas_hub.core.models import ACTIVE, Charge, Json, LaunchState, Limit, Resource, Target, Who
from daas_hub.core.quota import Amounts, Held, Relief

from . import balances, fast, launches
from .rows import LaunchRow, Reservation, charge_columns, load_one
from .schema import launch, limits
from .types import to_us

MOST_HELD = 100
"""More servers at once than anybody has; of more, the newest are looked at."""

_LIMITS = select(limits).where(limits.c.name.in_(bindparam("names", expanding=True)))


def reserve(c: Connection, r: Reservation, now: datetime) -> LaunchRow:
    """Admit and write a launch. The same launch id again returns what is there already."""
    scopes = quota.scopes(r.account_id, r.groups, r.project)
    server = (r.launch_id, r.account_id, r.server_name)
    seen = fast.look(c, scopes, _names(r.account_id, r.groups, r.project), server)
    if len(seen.used) < len(scopes):
        balances.lock(c, scopes)  # the first start of somebody, or of a group: its rows are made
        seen = fast.look(c, scopes, _names(r.account_id, r.groups, r.project), server)
    if seen.same is not None:
        row = load_one(c, r.launch_id)
        assert row is not None  # noqa: S101  seen in this transaction
        return row
    if seen.other is not None:
        raise LaunchConflict("This server is running or being started already.", launch_id=seen.other)
    applies = quota.applying(seen.limits, account_id=r.account_id, groups=r.groups, project=r.project, now=now)
    require(applies, seen.used, r.charge, r.account_id)
    columns = charge_columns(r.charge)
    fast.write(c, {**_values(r, to_us(now)), **columns}, scopes, quota.amounts(r.charge))
    return _fresh(r, columns, now)


def _values(r: Reservation, now_us: int) -> dict[str, Any]:
    return {
        "id": r.launch_id,
        "hub_boot_id": r.hub_boot_id,
        "account_id": r.account_id,
        "user_name": r.user_name,
        "server_name": r.server_name,
        "profile": r.profile,
        "backend": r.backend,
        "state": LaunchState.RESERVED.value,
        "target": Target.RUNNING.value,
        "created_at": now_us,
        "heartbeat_at": now_us,
        "request": r.request,
        "api_token_encrypted": r.api_token_encrypted,
        "source": r.source,
    }


def _fresh(r: Reservation, columns: Mapping[str, int | None], now: datetime) -> LaunchRow:
    """The row just written, without reading it again."""
    cores_m = columns["cores_m"]
    charge = Charge(
        cores=None if cores_m is None else cores_m / quota.MILLI,
        memory_bytes=r.charge.memory_bytes,
        gpus=r.charge.gpus,
        servers=r.charge.servers,
    )
    return LaunchRow(
        id=r.launch_id,
        account_id=r.account_id,
        user_name=r.user_name,
        server_name=r.server_name,
        profile=r.profile,
        backend=r.backend,
        state=LaunchState.RESERVED,
        target=Target.RUNNING,
        hub_boot_id=r.hub_boot_id,
        created_at=now,
        started_at=None,
        ended_at=None,
        stopping_since=None,
        observed=None,
        observed_at=None,
        handle=None,
        request=r.request,
        charge=charge,
        api_token_encrypted=r.api_token_encrypted,
        exit_code=None,
        reason="",
        target_reason="",
        target_by="",
        groups=tuple(sorted(set(r.groups))),
        project=r.project or None,
        heartbeat_at=now,
    )


def reassign(
    c: Connection, launch_id: str, backend: str, charge: Charge, now: datetime, placement: Json | None = None
) -> LaunchRow:
    """Move a reservation to another backend and charge; only before anything was submitted."""
    row = load_one(c, launch_id, lock=True)
    if row is None:
        raise NotFound(f"There is no launch {launch_id}.")
    if row.state not in {LaunchState.RESERVED, LaunchState.QUEUED}:
        raise IllegalMove(f"A launch that is {row.state} cannot be moved to another backend.")
    scopes = quota.scopes(row.account_id, row.groups, row.project)
    if charge != row.charge:
        used = balances.lock(c, scopes)
        mine = quota.amounts(row.charge)
        others = {scope: held.plus(mine, -1) for scope, held in used.items()}
        require(applying(c, row.account_id, row.groups, row.project, now), others, charge, row.account_id)
        balances.add(c, scopes, quota.amounts(charge).plus(mine, -1))
    values: dict[str, Any] = {"backend": backend, "handle": None, "observed": None, "observed_at": None}
    if placement is not None:
        values["request"] = {**row.request, "placement": placement}
    c.execute(update(launch).where(launch.c.id == launch_id).values(**values, **charge_columns(charge)))
    moved = load_one(c, launch_id)
    assert moved is not None  # noqa: S101  locked by this transaction
    return moved


def would_fit(
    c: Connection,
    account_id: str,
    groups: Sequence[str],
    project: str | None,
    charges: Mapping[str, Charge],
    now: datetime,
) -> dict[str, bool]:
    """Which of ``charges`` every limit would allow now."""
    used = balances.read(c, quota.scopes(account_id, groups, project))
    applies = applying(c, account_id, groups, project, now)
    return {
        name: quota.uncounted(applies, charge) is None and not quota.exceeded(applies, used, charge, account_id)
        for name, charge in charges.items()
    }


def relief(
    c: Connection,
    account_id: str,
    groups: Sequence[str],
    project: str | None,
    charges: Mapping[str, Charge],
    now: datetime,
) -> dict[str, Relief]:
    """Which servers of hers would have to be stopped for each of ``charges``."""
    used = balances.read(c, quota.scopes(account_id, groups, project))
    applies = applying(c, account_id, groups, project, now)
    held = [
        Held(row.server_name, frozenset(balances.scopes_of(c, row.id)), quota.amounts(row.charge))
        for row in launches.listing(c, list(ACTIVE), account_id, None, MOST_HELD, None)
        if row.target is Target.RUNNING
    ]
    return {name: quota.relief(applies, used, charge, account_id, held) for name, charge in charges.items()}


def applying(
    c: Connection, account_id: str, groups: Sequence[str], project: str | None, now: datetime | None
) -> tuple[Limit, ...]:
    """The limits that apply to a start, in one query."""
    rows = [limit_of(row) for row in c.execute(_LIMITS, {"names": _names(account_id, groups, project)})]
    return quota.applying(rows, account_id=account_id, groups=groups, project=project, now=now)


def _names(account_id: str, groups: Sequence[str], project: str | None) -> list[str]:
    """Whose limits can apply; the empty name is everybody's."""
    return ["", account_id, *groups, *([project] if project else [])]


def require(applies: Sequence[Limit], used: Mapping[str, Amounts], charge: Charge, account_id: str) -> None:
    """Raise QuotaExceeded, or NotAllowed where a limited resource is not counted."""
    missing = quota.uncounted(applies, charge)
    if missing is not None:
        raise NotAllowed(quota.refusal_uncounted(missing), reason="uncounted")
    exceeded = quota.exceeded(applies, used, charge, account_id)
    if exceeded:
        first, *others = exceeded
        message = " ".join(filter(None, (quota.refusal(first), quota.refusal_others(others))))
        raise QuotaExceeded(message, exceeded=first, others=tuple(others))


def limit_of(row: Any) -> Limit:
    """A row of ``limits`` as a value, in the units that people use."""
    resource = Resource(row.resource)
    return Limit(
        id=row.id,
        who=Who(row.who),
        name=row.name,
        resource=resource,
        amount=quota.plain(resource, row.amount),
        selector=row.selector,
        window_s=row.window_s or None,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
    )
