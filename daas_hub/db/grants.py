"""What a place that schedules by itself has given a launch: what it counts for from then on. One transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, update

from daas_hub.core import quota
from daas_hub.core.books import Stretch, before, charge_given
from daas_hub.core.errors import Exceeded
from daas_hub.core.grants import Grant
from daas_hub.core.models import Charge, Event, Json, LaunchState
from daas_hub.core.quota import Amounts
from daas_hub.core.units import format_bytes, format_cores

from . import admission, audit, balances, books, launches, notices, usage
from .rows import LaunchRow, charge_columns
from .schema import launch

_RUNS = {LaunchState.RUNNING, LaunchState.STOPPING}
SUSPENDED = "nothing was allocated: suspended, or put back into the queue"
"""Why an interval was closed while its launch went on."""
LATE = timedelta(seconds=2)
"""Less than this between a run's begin and ours is the grain of the clocks, and is left to the end."""


def grant(c: Connection, launch_id: str, told: Grant, source: str, now: datetime) -> tuple[Exceeded, ...]:
    """Count a launch for what its place has given it, from now on and since its present run began.

    Returns the limits that are passed by it where it is more than before: it runs all the same, and nothing new starts.
    """
    row = launches.require(c, launch_id)
    if row.state is LaunchState.ENDED:
        return ()
    if row.ends_at != told.ends_at:
        c.execute(update(launch).where(launch.c.id == launch_id).values(ends_at=told.ends_at))
    charge = row.charge if told.given is None else charge_given(row.charge, told.given)
    scopes = quota.scopes(row.account_id, row.groups, row.project)
    held = balances.lock(c, scopes)
    passed = _reserve(c, row, charge, held, source, now) if charge != row.charge else ()
    if row.state in _RUNS:
        _count(c, row, scopes, told, quota.amounts(charge), source, now)
    return passed


def _reserve(
    c: Connection, row: LaunchRow, charge: Charge, held: Mapping[str, Amounts], source: str, now: datetime
) -> tuple[Exceeded, ...]:
    """The reservation becomes what was allocated; audited, and a step on the launch's page."""
    mine, new = quota.amounts(row.charge), quota.amounts(charge)
    scopes = sorted(held)
    balances.add(c, scopes, new.plus(mine, -1))
    c.execute(update(launch).where(launch.c.id == row.id).values(**charge_columns(charge)))
    why = f"{source} gave it {in_words(charge)} where {in_words(row.charge)} counted"
    old, changed = _json(row.charge), _json(charge)
    audit.write(c, at=now, who=source, action="allocation", subject=f"launch:{row.id}", old=old, new=changed, why=why)
    step = f"{source} gave the server {in_words(charge)}: that is what counts"
    launches.add_events(c, row.id, [Event(now, step)])
    more = any(after > was for after, was in zip(new, mine, strict=True))
    others = {scope: amounts.plus(mine, -1) for scope, amounts in held.items()}
    applies = admission.applying(c, row.account_id, row.groups, row.project, now)
    passed = quota.exceeded(applies, others, charge, row.account_id) if more else ()
    if passed:
        which = f"Your server {row.server_name}" if row.server_name else "Your server"
        text = (
            f"{which} was given more than it asked for, and counts for it: {in_words(charge)}. It passes "
            f"{' and '.join(quota.whose(one.who, one.name) for one in passed)}: no other server starts meanwhile."
        )
        notices.warn(c, row.account_id, row.server_name, row.id, text, now)
    return passed


def _count(
    c: Connection, row: LaunchRow, scopes: Sequence[str], told: Grant, amounts: Amounts, source: str, now: datetime
) -> None:
    """Its use from now on; and since its run began where that was not heard before."""
    rows = books.rows_of(c, row.id)
    running = next((one for one in rows if one.to_at is None), None)
    if told.given is None:
        usage.close_interval(c, row.id, scopes, now, reason=SUSPENDED)
        return
    at = usage.whole_seconds(now)
    since = usage.whole_seconds(told.since) if told.since is not None and told.since < at else None
    # Counted by what was asked, from when the server answered.
    asked = running if running is not None and running.source != source else None
    late = asked is not None and since is not None and asked.from_at - since > LATE
    if running is not None and books.amounts_of(running) == amounts and not late:
        return
    gaps = [one.to_at for one in rows if one.reason == SUSPENDED]
    # Nothing is open, and not because this run was suspended: it is another one.
    anew = running is None and since is not None and max(gaps, default=since) <= since
    usage.close_interval(c, row.id, scopes, now, reason=f"as allocated by {source} from here on")
    if since is not None and (asked is not None or anew):
        begin = books.seconds(since if asked is None else min(since, asked.from_at))
        have = [books.stretch(one) for one in books.rows_of(c, row.id)]
        want = [*before(have, begin), Stretch(books.seconds(since), books.seconds(at), amounts)]
        books.correct(c, row.id, scopes, have, want, source, f"as allocated by {source}")
    usage.open_amounts(c, row.id, amounts, at, source=source)


def in_words(charge: Charge) -> str:
    """A charge for a person: ``8 cores, 15.6 GiB, 2 GPUs``."""
    parts = [] if charge.cores is None else [format_cores(charge.cores)]
    parts += [] if charge.memory_bytes is None else [f"{format_bytes(charge.memory_bytes)} of memory"]
    parts += [f"{charge.gpus} GPU{'' if charge.gpus == 1 else 's'}"] if charge.gpus else []
    return ", ".join(parts) or "nothing that is counted"


def _json(charge: Charge) -> Json:
    return {"cores": charge.cores, "memory_bytes": charge.memory_bytes, "gpus": charge.gpus}
