"""What the console reads and changes, as plain synchronous functions over the ledger; ``store`` runs them in threads.

Names that people use (user names) are turned into the keys of the ledger (account ids) here, and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.launch import state_words
from daas_hub.core.models import ACTIVE, LaunchState, Life, Limit, Resource, Who
from daas_hub.core.quota import step, storable
from daas_hub.db.audit import AuditRow
from daas_hub.db.ledger import LaunchRow, Ledger, Place
from daas_hub.db.types import from_us, to_us

from . import models as m
from .access import Person
from .presentation import resource, whose

ENDED_SHOWN = 10
"""How many ended launches "My usage" lists."""
PLACE = re.compile(r"([0-9]{1,17})-([0-9A-Za-z_-]{1,64})")
"""Where a page of launches begins: microseconds since 1970 and the id of the launch before. 17 digits: year 5138."""
NO_ACCOUNT = "-"
"""No account has this id: for people who never started a server, and for services."""


# ---------------------------------------------------------------- launches


def launch_model(row: LaunchRow) -> m.LaunchModel:
    """A row of the ledger as the console gives it away: without token, handle and paths."""
    handle: Mapping[str, Any] = row.handle or {}
    return m.LaunchModel(
        id=row.id,
        user_name=row.user_name,
        server_name=row.server_name,
        profile=str(row.request.get("profile_display_name") or row.profile),
        backend=row.backend,
        state=row.state,
        target=row.target,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        stopping_since=row.stopping_since,
        cores=row.charge.cores,
        memory_bytes=row.charge.memory_bytes,
        gpus=row.charge.gpus,
        groups=list(row.groups),
        exit_code=row.exit_code,
        reason=row.reason or row.target_reason or "",
        doubt=row.observed_reason if row.state in ACTIVE and row.observed is Life.UNKNOWN else "",
        stopped_by=row.target_by or "",
        limits_enforced=bool(handle.get("enforces_limits", True)),
        limits_note=str(handle.get("limits_note") or ""),
        shared_uid=bool(handle.get("shared_uid", False)),
    )


def launches(ledger: Ledger, user: str, state: str, before: str, limit: int) -> m.LaunchList:
    """A page of launches. An unknown user has none; an unknown state is refused."""
    states = None
    if state:
        allowed = ", ".join(LaunchState)
        if state not in set(LaunchState):
            raise InvalidOptions(f"state: {state[:40]!r} is not a state; there are: {allowed}.", field="state")
        states = [LaunchState(state)]
    account_id = None
    if user:
        account = ledger.accounts.by_user_name(user)
        if account is None:
            return m.LaunchList(launches=[], next=None)
        account_id = account.id
    rows = ledger.launches(states=states, account_id=account_id, limit=limit + 1, before=place(before))
    following = place_text(rows[limit - 1].place) if len(rows) > limit else None
    return m.LaunchList(launches=[launch_model(row) for row in rows[:limit]], next=following)


def place_text(at: Place) -> str:
    """A place as one word that a URL carries as it is."""
    return f"{to_us(at.created_at)}-{at.id}"


def place(before: str) -> Place | None:
    """The place that ``place_text`` wrote; raises InvalidOptions for anything else."""
    if not before:
        return None
    found = PLACE.fullmatch(before)
    if found is None:
        message = f"before: {before[:40]!r} is not a page of this list; give the `next` of the page before."
        raise InvalidOptions(message, field="before")
    return Place(from_us(int(found[1])), found[2])


def declare_lost(ledger: Ledger, launch_id: str, typed: m.Confirmation, person: Person, now: datetime) -> None:
    """End a launch in STOPPING without evidence; raises InvalidOptions where the typed name is not the owner's."""
    row = ledger.get(launch_id)
    if row is None:
        raise NotFound("There is no such launch.")
    if row.state is not LaunchState.STOPPING:
        message = f"Only a launch that is being stopped can be declared lost; this one is {state_words(row.state)}."
        raise InvalidOptions(message, field="state")
    if typed.user_name != row.user_name:
        raise InvalidOptions("The typed name is not the name of this server's user.", field="user_name")
    ledger.declare_lost(launch_id, by=person.by, why=typed.why, now=now)


# ---------------------------------------------------------------- me


def usage(ledger: Ledger, person: Person, now: datetime) -> m.MyUsage:
    """Everything that "My usage" shows."""
    account = ledger.accounts.by_user_name(person.name) if person.kind == "user" else None
    account_id = account.id if account is not None else NO_ACCOUNT
    running, ended = [], []
    if account is not None:
        running = ledger.launches(states=list(ACTIVE), account_id=account.id)
        ended = ledger.launches(states=[LaunchState.ENDED], account_id=account.id, limit=ENDED_SHOWN)
    return m.MyUsage(
        user_name=person.name,
        groups=list(person.groups),
        limits=[
            m.UsageLine(
                resource=line.limit.resource,
                who=line.limit.who,
                name=person.name if line.limit.who is Who.USER else line.limit.name,
                amount=line.limit.amount,
                used=line.used,
                left=line.left,
            )
            for line in ledger.limits.effective(account_id, person.groups, now=now)
        ],
        servers=[launch_model(row) for row in running],
        ended=[launch_model(row) for row in ended],
        notices=notices(ledger, person),
    )


def notices(ledger: Ledger, person: Person) -> list[m.NoticeModel]:
    """This person's notices that she has not dismissed, newest first."""
    account = ledger.accounts.by_user_name(person.name) if person.kind == "user" else None
    if account is None:
        return []
    return [
        m.NoticeModel(id=n.id, at=n.at, server_name=n.server_name, text=n.text) for n in ledger.notices.list(account.id)
    ]


def dismiss(ledger: Ledger, person: Person, notice: str, now: datetime) -> None:
    """Dismiss one of her own; somebody else's is as if it did not exist."""
    account = ledger.accounts.by_user_name(person.name) if person.kind == "user" else None
    number = _number(notice)
    if account is None or number not in {n.id for n in ledger.notices.list(account.id, dismissed=True, limit=1000)}:
        raise NotFound("There is no such notice.")
    ledger.notices.dismiss(number, now=now, account_id=account.id)


# ---------------------------------------------------------------- limits


def limits(ledger: Ledger) -> list[m.LimitModel]:
    """All limits, sorted by whose, name and resource."""
    order = list(Who)
    rows = ledger.limits.list()
    names = {}
    if any(row.who is Who.USER for row in rows):
        # One query for all of them, however many users have a row of their own.
        names = {account.id: account.user_name for account in ledger.accounts.list()}
    found = [_limit_model(row, names) for row in rows]
    return sorted(found, key=lambda row: (order.index(row.who), row.name, row.resource))


def limit(ledger: Ledger, limit_id: str) -> m.LimitModel:
    """One limit; raises NotFound."""
    return limit_model(ledger, _limit(ledger, limit_id))


def _limit(ledger: Ledger, limit_id: str) -> Limit:
    number = _number(limit_id)
    for row in ledger.limits.list():
        if row.id == number:
            return row
    raise NotFound("There is no such limit.")


def limit_model(ledger: Ledger, row: Limit) -> m.LimitModel:
    """A limit with the user's name in place of the account's id."""
    account = ledger.accounts.by_id(row.name) if row.who is Who.USER else None
    return _limit_model(row, {account.id: account.user_name} if account is not None else {})


def _limit_model(row: Limit, names: Mapping[str, str]) -> m.LimitModel:
    # An account whose user is gone keeps its rows; they are named by its id then.
    name = (names.get(row.name) or row.name) if row.who is Who.USER else row.name
    return m.LimitModel(id=row.id, who=row.who, name=name, resource=row.resource, amount=row.amount)


def check_limit(wanted: m.LimitIn) -> None:
    """Raise InvalidOptions naming the field, what was given and what is allowed; asks nobody."""
    if wanted.who is Who.DEFAULT_EACH and wanted.name:
        raise InvalidOptions(f"name: {wanted.name!r} is not allowed for everybody; leave it empty.", field="name")
    if wanted.who is not Who.DEFAULT_EACH and not wanted.name:
        raise InvalidOptions(f"name: empty is not allowed; say which {wanted.who.split('-')[0]}.", field="name")
    _check_amount(wanted.resource, wanted.amount)


def check_name(wanted: m.LimitIn, seen: bool) -> None:
    """Raise InvalidOptions for a group or project that nobody has seen here, unless she says that she means it."""
    if not seen and not wanted.confirm_name:
        message = (
            f"name: no {wanted.who.split('-')[0]} {wanted.name!r} has been seen here yet. Check the spelling; "
            "a name that is right must be confirmed (confirm_name)."
        )
        raise InvalidOptions(message, field="confirm_name")


def name_seen(ledger: Ledger, wanted: m.LimitIn) -> bool:
    """True where the ledger knows the group or the project of a limit."""
    return ledger.limits.name_seen(wanted.who, wanted.name)


def account_id(ledger: Ledger, user: str) -> str | None:
    """The account that the hub's user of this name has; None where the ledger knows none."""
    account = ledger.accounts.by_user_name(user)
    return account.id if account is not None else None


def set_limit(ledger: Ledger, wanted: m.LimitIn, key: str, person: Person, now: datetime) -> m.LimitModel:
    """Set a limit that ``check_limit`` has passed; ``key`` is the group, the project or the account's id."""
    return _set(ledger, (wanted.who, key, wanted.resource), wanted.amount, wanted.note, person, now)


def change_limit(ledger: Ledger, limit_id: str, to: m.AmountIn, person: Person, now: datetime) -> m.LimitModel:
    """Change the amount of a limit that exists; raises NotFound, InvalidOptions."""
    row = _limit(ledger, limit_id)
    _check_amount(row.resource, to.amount)
    return _set(ledger, (row.who, row.name, row.resource), to.amount, to.note, person, now)


def delete_limit(ledger: Ledger, limit_id: str, note: str, person: Person, now: datetime) -> None:
    """Delete a limit; raises NotFound."""
    ledger.limits.delete(_number(limit_id), by=person.by, now=now, note=note)


def _set(
    ledger: Ledger, rule: tuple[Who, str, Resource], amount: float, note: str, person: Person, now: datetime
) -> m.LimitModel:
    who, name, what = rule
    return limit_model(ledger, ledger.limits.set(who, name, what, amount, by=person.by, now=now, note=note))


def _check_amount(what: Resource, amount: float) -> None:
    if not storable(what, amount):
        raise InvalidOptions(f"amount: {amount:.15g} is not allowed; give {step(what)}.", field="amount")


# ---------------------------------------------------------------- audit


def audit(ledger: Ledger, before: str, limit: int) -> m.AuditList:
    """A page of the audit, newest first."""
    rows = ledger.audit.list(limit=limit + 1, before=_number(before) if before else None)
    return m.AuditList(
        rows=[_audit_model(ledger, row) for row in rows[:limit]],
        next=rows[limit - 1].id if len(rows) > limit else None,
    )


def _audit_model(ledger: Ledger, row: AuditRow) -> m.AuditModel:
    group = row.subject.startswith(("local_group:", "project:"))
    return m.AuditModel(
        id=row.id,
        at=row.at,
        who=row.who,
        action=row.action,
        subject=row.subject,
        about=_about(ledger, row),
        old=_named(ledger, row.old) if group else row.old,
        new=_named(ledger, row.new) if group else row.new,
        why=row.why,
    )


def _named(ledger: Ledger, facts: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The members of a group or project by name: what is stored are accounts."""
    if facts is None:
        return None
    ids = [facts["account_id"]] if "account_id" in facts else facts.get("members", [])
    accounts = [(ledger.accounts.by_id(id), id) for id in ids]
    names = sorted((account.user_name or account.name) if account is not None else id for account, id in accounts)
    kept = {key: value for key, value in facts.items() if key not in {"account_id", "members"}}
    return {**kept, **({"members": ", ".join(names)} if ids else {})}


def _about(ledger: Ledger, row: AuditRow) -> str:
    kind, _, key = row.subject.partition(":")
    facts = row.new or row.old or {}
    if kind == "limit" and {"who", "name", "resource"} <= facts.keys():
        account = ledger.accounts.by_id(facts["name"]) if facts["who"] == Who.USER else None
        name = (account.user_name if account is not None else "") or facts["name"]
        return f"{whose(facts['who'], name)}: {resource(facts['resource'])}"
    if kind == "local_group" and "account_id" in facts:
        account = ledger.accounts.by_id(facts["account_id"])
        return f"group {key}: {(account.user_name or account.name) if account is not None else facts['account_id']}"
    if kind == "local_group":
        return f"group {key}"
    if kind == "account":
        account = ledger.accounts.by_id(key)
        return f"account of {account.user_name or account.name}" if account is not None else row.subject
    if kind == "launch":
        launched = ledger.get(key)
        return f"launch of {launched.user_name}" if launched is not None else row.subject
    return row.subject


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFound("There is nothing of that number.")
    return int(text)
