"""Accounts, changed uids and POSIX rows entered by hand, as synchronous functions over the ledger (see queries)."""

from __future__ import annotations

from datetime import datetime

from daas_hub.core.errors import InvalidOptions, NotFound
from daas_hub.core.models import Account, AccountGroup
from daas_hub.core.naming import login_name
from daas_hub.db.accounts import AccountRow
from daas_hub.db.ledger import Ledger

from . import models as m
from .access import Person


def account(ledger: Ledger, user: str) -> m.AccountModel:
    """The account of a user; raises NotFound."""
    return _model(ledger, _row(ledger, user))


def waiting(ledger: Ledger) -> list[m.AccountModel]:
    """Accounts with a changed uid that nobody has confirmed."""
    rows = (ledger.accounts.by_id(change.account_id) for change in ledger.accounts.uid_changes())
    return [_model(ledger, row) for row in rows if row is not None]


def confirm_uid(ledger: Ledger, user: str, typed: m.ConfirmUid, person: Person, now: datetime) -> m.AccountModel:
    """Accept the uid that a source now reports; raises InvalidOptions where another one was typed."""
    found = account(ledger, user)
    if found.pending_uid is None:
        raise InvalidOptions(f"No other uid was reported for {user}.", field="uid")
    if typed.uid != found.pending_uid:
        message = f"uid: {typed.uid} is not the reported one, which is {found.pending_uid}."
        raise InvalidOptions(message, field="uid")
    ledger.accounts.confirm_uid(found.id, person.by, now)
    return account(ledger, user)


def posix_row(ledger: Ledger, name: str) -> m.PosixRow:
    """What an administrator entered for a login name; raises NotFound."""
    row = ledger.accounts.get_row(name)
    if row is None:
        raise NotFound("No account of this name was entered by hand.")
    return m.PosixRow(
        name=row.name,
        uid=row.uid,
        gid=row.gid,
        home=row.home,
        shell=row.shell,
        groups=[m.PosixGroup(name=group.name, gid=group.gid) for group in row.groups],
    )


def set_posix_row(ledger: Ledger, name: str, wanted: m.PosixRowIn, person: Person, now: datetime) -> m.PosixRow:
    """Enter POSIX facts for a login name; what must never run is refused again at each start."""
    if login_name(name) != name:
        message = f"name: {name[:80]!r} is not allowed; give a login name in lower case, such as ada."
        raise InvalidOptions(message, field="name")
    groups = tuple(AccountGroup(group.name, group.gid) for group in wanted.groups)
    if wanted.gid not in {group.gid for group in groups}:
        groups = (AccountGroup(name, wanted.gid), *groups)
    row = Account(
        id="",
        name=name,
        uid=wanted.uid,
        gid=wanted.gid,
        groups=groups,
        home=wanted.home,
        shell=wanted.shell,
        source="admin",
        fetched_at=now,
    )
    ledger.accounts.set_row(row, by=person.by, now=now, why=wanted.note)
    return posix_row(ledger, name)


def delete_posix_row(ledger: Ledger, name: str, note: str, person: Person, now: datetime) -> None:
    """Remove an entered row; raises NotFound."""
    ledger.accounts.delete_row(name, by=person.by, now=now, why=note)


def _row(ledger: Ledger, user: str) -> AccountRow:
    row = ledger.accounts.by_user_name(user)
    if row is None:
        raise NotFound("No account of this user is known.")
    return row


def _model(ledger: Ledger, row: AccountRow) -> m.AccountModel:
    pending = {change.account_id: change for change in ledger.accounts.uid_changes()}
    change = pending.get(row.id)
    return m.AccountModel(
        id=row.id,
        user_name=row.user_name,
        name=row.name,
        uid=row.uid,
        gid=row.gid,
        home=row.home,
        source=row.source,
        pending_uid=None if change is None else change.new_uid,
        pending_uid_holder=None if change is None else change.holder or None,
    )
