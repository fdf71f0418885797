"""What happens to a launch after its admission: moves, observations, events, its end. One function, one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, literal, select, text, tuple_, update

from daas_hub.core import quota
from daas_hub.core.errors import IllegalMove, InvalidOptions, NotFound
from daas_hub.core.grants import Booked
from daas_hub.core.lifecycle import was_stopped
from daas_hub.core.models import (
    Event,
    Handle,
    Json,
    LaunchState,
    Observation,
    Target,
    check_move,
)

from . import audit, balances, books, notices, usage
from .rows import COLUMNS, Kept, LaunchRow, Place, load, load_one, load_these
from .schema import event, launch
from .types import Words, clean

MAX_WHY = 500
"""Characters of an administrator's reason to declare a launch lost: one remark, not a report."""

# Literally as in the partial indexes: a bound value would keep SQLite from using them.
_ACTIVE = text("launch.state <> 'ended'")

# Built once: to build a statement anew costs more than to run it, and every start runs these.
_UPDATE = update(launch).where(launch.c.id == bindparam("b_id"))
_LAST_STEP = select(func.coalesce(func.max(event.c.seq), 0)).where(event.c.launch_id == bindparam("b_id"))
_ADD_STEPS = insert(event)
_OF_SERVER = select(*COLUMNS).where(
    launch.c.account_id == bindparam("b_account"), launch.c.server_name == bindparam("b_server")
)
_ACTIVE_OF_SERVER = _OF_SERVER.where(_ACTIVE).limit(1)
_LAST_OF_SERVER = (
    _OF_SERVER.where(launch.c.state == LaunchState.ENDED.value).order_by(launch.c.created_at.desc()).limit(1)
)
_WORDS = {column.name for column in launch.c if isinstance(column.type, Words)}


def require(c: Connection, launch_id: str, *, lock: bool = True) -> LaunchRow:
    """The launch, held against other writers; raises NotFound."""
    row = load_one(c, launch_id, lock=lock)
    if row is None:
        raise NotFound(f"There is no launch {launch_id}.")
    return row


def _set(c: Connection, row: LaunchRow, **values: Any) -> LaunchRow:
    """Change a launch that was read in this transaction, held against others; what it is then, not read again."""
    c.execute(_UPDATE, {"b_id": row.id, **values})
    words = {name: clean(values[name]) for name in _WORDS & values.keys()}
    kinds = {name: kind(values[name]) for name, kind in (("state", LaunchState), ("target", Target)) if name in values}
    return replace(row, **{**values, **words, **kinds})


# ---------------------------------------------------------------- queries


def one_of_server(c: Connection, account_id: str, server_name: str, *, ended: bool) -> LaunchRow | None:
    """The active launch of a server, or the one that ended last."""
    found = load(c, _LAST_OF_SERVER if ended else _ACTIVE_OF_SERVER, {"b_account": account_id, "b_server": server_name})
    return found[0] if found else None


def begun_as(c: Connection, user_name: str) -> list[LaunchRow]:
    """Active launches whose user had this name when they began."""
    return load(c, select(*COLUMNS).where(launch.c.user_name == user_name).where(_ACTIVE))


def listing(
    c: Connection,
    states: Collection[LaunchState] | None,
    account_id: str | None,
    backend: str | None,
    limit: int,
    before: Place | None,
) -> list[LaunchRow]:
    """Launches, newest first; of the same instant by id, so that pages neither lose nor repeat any."""
    query = select(*COLUMNS).order_by(launch.c.created_at.desc(), launch.c.id.desc()).limit(limit)
    if states is not None:
        query = query.where(launch.c.state.in_([state.value for state in states]))
        if LaunchState.ENDED not in states:
            query = query.where(_ACTIVE)
    if account_id is not None:
        query = query.where(launch.c.account_id == account_id)
    if backend is not None:
        query = query.where(launch.c.backend == backend)
    if before is not None:
        place = tuple_(literal(before.created_at, launch.c.created_at.type), literal(before.id, launch.c.id.type))
        query = query.where(tuple_(launch.c.created_at, launch.c.id) < place)
    return load(c, query)


# ---------------------------------------------------------------- moves


def move(c: Connection, launch_id: str, state: LaunchState, now: datetime, reason: str) -> LaunchRow:
    """A legal move; to where it is already: nothing. Raises IllegalMove, also for ENDED: that takes evidence."""
    row = require(c, launch_id)
    check_move(row.state, state)
    if state is row.state:
        return row
    if state is LaunchState.ENDED:
        raise IllegalMove("A launch ends by settle() with evidence, or declare_lost(), not by a move.")
    values: dict[str, Any] = {"state": state.value}
    if reason:
        values["reason"] = reason
    match state:
        case LaunchState.RUNNING:
            values["started_at"] = now
            usage.open_interval(c, launch_id, row.charge, now, source="hub")
        case LaunchState.STOPPING:
            values["stopping_since"] = now
        case LaunchState.RESERVED:
            # The candidate was given up and what it left was stopped: its handle must not be taken for the next one's.
            values.update(handle=None, observed=None, observed_at=None, observed_reason="")
        case _:
            pass
    return _set(c, row, **values)


def adopt(c: Connection, launch_id: str, hub_boot_id: str, now: datetime) -> LaunchRow:
    """The launch belongs to this boot of the hub from now on; one that ended cannot be adopted."""
    row = require(c, launch_id)
    if row.state is LaunchState.ENDED:
        raise IllegalMove("A launch that has ended cannot be adopted.")
    return _set(c, row, hub_boot_id=hub_boot_id, heartbeat_at=now)


def adopt_these(c: Connection, launch_ids: Collection[str], hub_boot_id: str, now: datetime) -> set[str]:
    """The same of several, in one transaction: the ids of those that belong to this boot now; no other has changed."""
    rows = load_these(c, launch_ids, lock=True).values()
    ids = [row.id for row in rows if row.state is not LaunchState.ENDED]
    if ids:
        c.execute(_UPDATE, [{"b_id": each, "hub_boot_id": hub_boot_id, "heartbeat_at": now} for each in ids])
    return set(ids)


def set_target(c: Connection, launch_id: str, target: Target, now: datetime, reason: str, by: str) -> LaunchRow:
    """Say that a launch should stop; the first reason stays. Never back to RUNNING."""
    row = require(c, launch_id)
    if row.target is target or row.state is LaunchState.ENDED:
        return row
    if target is not Target.STOPPED:
        raise IllegalMove("A launch that should stop cannot be asked to run again; start a new one.")
    if by.startswith("admin:"):
        audit.write(c, at=now, who=by, action="stop", subject=f"launch:{launch_id}", why=reason)
    return _set(c, row, target=target.value, target_reason=reason, target_by=by)


# ---------------------------------------------------------------- what is known


def save_handle(c: Connection, launch_id: str, handle: Handle, now: datetime) -> None:
    """Remember where the server is."""
    done = c.execute(_UPDATE, {"b_id": launch_id, "handle": handle, "heartbeat_at": now})
    if done.rowcount == 0:
        raise NotFound(f"There is no launch {launch_id}.")


def replace_handle(c: Connection, launch_id: str, old: Handle, new: Handle, now: datetime) -> bool:
    """Change what is known of where a server is, unless it became something else since, or should stop."""
    row = require(c, launch_id)
    if row.handle != old or row.target is Target.STOPPED or row.state in {LaunchState.STOPPING, LaunchState.ENDED}:
        return False
    _set(c, row, handle=new, heartbeat_at=now)
    return True


def record_observations(c: Connection, looks: Sequence[tuple[str, Observation, datetime]]) -> None:
    """Remember looks. Does not move a launch: an end is settled with evidence."""
    # In the order of ids, as others lock them; of two looks at one launch the later one stays.
    values = [
        {"b_id": launch_id, "observed": seen.life.value, "observed_at": at, "observed_reason": seen.reason}
        for launch_id, seen, at in sorted(looks, key=itemgetter(0))
    ]
    c.execute(_UPDATE, values)


def keep_log(c: Connection, launch_id: str, log: str) -> None:
    """Remember the end of a server's log; a later one takes its place."""
    c.execute(update(launch).where(launch.c.id == launch_id).values(log=log))


def forget_logs(c: Connection, ended_before: datetime, at_most: int) -> int:
    """Forget the logs of launches that ended before then, a few at a time; how many there were."""
    over = (launch.c.log.is_not(None), launch.c.ended_at < ended_before)
    ids = c.execute(select(launch.c.id).where(*over).limit(at_most)).scalars().all()
    if ids:
        c.execute(update(launch).where(launch.c.id.in_(ids)).values(log=None))
    return len(ids)


def save_software(c: Connection, launch_id: str, software: Json, image_digest: str | None) -> None:
    """Remember what a server is made of."""
    c.execute(_UPDATE, {"b_id": launch_id, "software": software, "image_digest": image_digest})


def kept(c: Connection, launch_id: str) -> Kept:
    """What only the pages about one launch ask for; all None where there is no such launch."""
    query = select(launch.c.log, launch.c.software, launch.c.image_digest).where(launch.c.id == launch_id)
    row = c.execute(query).first()
    return Kept(*row) if row is not None else Kept()


def heartbeat(c: Connection, launch_ids: Iterable[str], now: datetime) -> None:
    """Somebody of this boot still takes care of these launches."""
    ids = sorted(set(launch_ids))
    for start in range(0, len(ids), 500):
        chunk = launch.c.id.in_(ids[start : start + 500])
        c.execute(update(launch).where(chunk, _ACTIVE).values(heartbeat_at=now))


def add_events(c: Connection, launch_id: str, steps: Sequence[Event]) -> None:
    """Append steps of a start."""
    if c.dialect.name == "postgresql":
        require(c, launch_id)  # two writers would find the same number
    last = c.execute(_LAST_STEP, {"b_id": launch_id}).scalar_one()
    rows = [
        {
            "launch_id": launch_id,
            "seq": number,
            "at": s.at,
            "message": s.message,
            "detail": s.detail,
            "progress": s.progress,
        }
        for number, s in enumerate(steps, last + 1)
    ]
    c.execute(_ADD_STEPS, rows)


def events(c: Connection, launch_id: str, after: int) -> list[tuple[int, Event]]:
    """The steps after number ``after``, with their numbers, oldest first."""
    query = select(event).where(event.c.launch_id == launch_id, event.c.seq > after).order_by(event.c.seq)
    return [(row.seq, Event(row.at, row.message, row.detail, row.progress)) for row in c.execute(query)]


# ---------------------------------------------------------------- its end


def settle(
    c: Connection,
    launch_id: str,
    code: int | None,
    reason: str,
    evidence: str,
    now: datetime,
    ended_at: datetime | None,
    booked: Booked | None,
    time_over: bool,
) -> bool:
    """End a launch on evidence: usage closed, balance freed. False where it had ended already.

    The reason for which it was to stop stays the reason of its end, whoever sees the end first.
    """
    row = require(c, launch_id)
    if row.target is Target.STOPPED and row.target_reason:
        reason, time_over = row.target_reason, False
    ended = _end(c, row, code, reason, evidence, now, ended_at, booked)
    if ended and time_over and row.started_at is not None:
        notices.add(c, row.account_id, row.server_name, was_stopped(row.server_name, reason), now)
    return ended


def _end(
    c: Connection,
    row: LaunchRow,
    code: int | None,
    reason: str,
    evidence: str,
    now: datetime,
    ended_at: datetime | None,
    booked: Booked | None = None,
) -> bool:
    if not evidence.strip():
        raise InvalidOptions("A launch is ended on evidence only; say what was seen.", field="evidence")
    if row.state is LaunchState.ENDED:
        return False
    # An end in the future or before the start is a clock's fault.
    at = min(max(ended_at or now, row.started_at or row.created_at), max(now, row.created_at))
    scopes = quota.scopes(row.account_id, row.groups, row.project)
    balances.lock(c, scopes)
    usage.close_interval(c, row.id, scopes, at)
    if booked is not None:
        books.book(c, row, scopes, booked, now)
    notices.take_away(c, row.account_id, row.id, now)
    balances.add(c, scopes, quota.amounts(row.charge), -1)
    # Nobody adopts it any more, so nobody needs its token.
    values = {"state": LaunchState.ENDED.value, "ended_at": at, "api_token_encrypted": None}
    values |= {"exit_code": code, "reason": reason, "evidence": evidence}
    c.execute(_UPDATE, {"b_id": row.id, **values})
    return True


def declare_lost(c: Connection, launch_id: str, by: str, why: str, now: datetime) -> None:
    """End a launch without evidence, on an administrator's word; why is kept with its end and in the audit."""
    why = why.strip()
    if not 0 < len(why) <= MAX_WHY:
        given = f"{len(why)} characters" if why else "empty"
        message = f"why: {given} is not allowed; say in 1 to {MAX_WHY} characters why the launch is lost."
        raise InvalidOptions(message, field="why")
    row = require(c, launch_id)
    if _end(c, row, None, f"declared lost: {why}", f"none: declared lost by {by}", now, None):
        if row.handle is not None:
            # Its place may have accounted for it.
            books.due(c, row.id, now)
        audit.write(c, at=now, who=by, action="declare_lost", subject=f"launch:{launch_id}", why=why)


def suspend(c: Connection, launch_id: str, now: datetime) -> None:
    """Stop counting the use of a launch; it keeps its reservation."""
    row = require(c, launch_id)
    scopes = quota.scopes(row.account_id, row.groups, row.project)
    balances.lock(c, scopes)
    usage.close_interval(c, launch_id, scopes, now, reason="suspended")


def resume(c: Connection, launch_id: str, now: datetime) -> None:
    """Count the use of a running launch again."""
    row = require(c, launch_id)
    if row.state not in {LaunchState.RUNNING, LaunchState.STOPPING}:
        raise IllegalMove(f"A launch that is {row.state} has no use to count.")
    usage.open_interval(c, launch_id, row.charge, now, source="hub")
