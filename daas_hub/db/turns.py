"""What the hub's own queue asks the ledger: what launches hold at a place, and what people have used lately."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select, text

from daas_hub.core import quota
from daas_hub.core.models import LaunchState, Resource, Who
from daas_hub.core.share import WINDOW, Use
from daas_hub.core.turns import Asks

from . import admission
from .rows import charge_of
from .schema import launch, launch_scope, usage, usage_hour
from .types import to_us
from .usage import HOUR_S

HOLDING = (LaunchState.SUBMITTED, LaunchState.RUNNING, LaunchState.STOPPING)
"""States in which a launch may have something at its place. QUEUED and RESERVED ones have nothing there yet."""

# Literally as in the partial indexes: a bound value would keep SQLite from using them.
_HOLDING = select(
    launch.c.id,
    launch.c.state,
    launch.c.request,
    launch.c.servers,
    launch.c.cores_m,
    launch.c.memory_bytes,
    launch.c.gpus,
).where(
    text("launch.state <> 'ended'"),
    launch.c.backend == bindparam("b_backend"),
    launch.c.state.in_(bindparam("b_states", expanding=True)),
)
_SUMS = (
    func.sum(usage_hour.c.server_s),
    func.sum(usage_hour.c.core_ms),
    func.sum(usage_hour.c.memory_byte_s),
    func.sum(usage_hour.c.gpu_s),
)


def holding(c: Connection, backend: str, states: Collection[LaunchState]) -> dict[str, tuple[LaunchState, Asks]]:
    """Launches at a backend in these states, and what each holds there."""
    rows = c.execute(_HOLDING, {"b_backend": backend, "b_states": [state.value for state in states]})
    return {row.id: (LaunchState(row.state), Asks.of(row.request, charge_of(dict(row._mapping)))) for row in rows}


def used(
    c: Connection, people: Mapping[str, Sequence[str]], now: datetime, window: timedelta = WINDOW
) -> dict[str, dict[Resource, Use]]:
    """What each account has used over the window, and may use at once, by resource.

    ``people``: account → the groups of its launch. What runs counts up to now; hours count whole.
    """
    return {account: _of(c, account, groups, now, window) for account, groups in people.items()}


def _of(c: Connection, account: str, groups: Sequence[str], now: datetime, window: timedelta) -> dict[Resource, Use]:
    scope = f"user:{account}"
    first = to_us(now - window) // 1_000_000 // HOUR_S
    counted = c.execute(select(*_SUMS).where(usage_hour.c.scope == scope, usage_hour.c.hour >= first)).one()
    sums = [float(amount or 0) for amount in counted]
    still = (
        select(usage.c.counted_to_at, usage.c.servers, usage.c.cores_m, usage.c.memory_bytes, usage.c.gpus)
        .join(launch_scope, launch_scope.c.launch_id == usage.c.launch_id)
        .where(launch_scope.c.scope == scope, usage.c.to_at.is_(None))
    )
    for row in c.execute(still):
        seconds = max(0.0, (now - max(row.counted_to_at, now - window)).total_seconds())
        for index, amount in enumerate(row[1:]):
            sums[index] += seconds * amount
    sums[1] /= quota.MILLI
    limits = {
        limit.resource: limit.amount
        for limit in admission.applying(c, account, groups, None, now)
        if limit.who in (Who.USER, Who.GROUP_EACH, Who.DEFAULT_EACH)
    }
    return {kind: Use(amount, limits.get(kind)) for kind, amount in zip(Resource, sums, strict=True)}
