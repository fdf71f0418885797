"""Accounts as they were when last seen, which identity is which account, and rows that an administrator entered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from daas_hub.core.errors import AccountRefused, NotFound
from daas_hub.core.models import Account, AccountGroup, Json
from daas_hub.core.naming import new_id

from . import audit
from .engine import Database
from .engine import insert as upsert
from .schema import account_rows, account_uid, accounts, links
from .types import Words, clean
from .volumes import take_back

# Built once: to build a statement anew costs more than to run it, and every start runs these.
_LINKED = select(accounts).where(
    accounts.c.id
    == select(links.c.account_id)
    .where(links.c.issuer == bindparam("b_issuer"), links.c.subject == bindparam("b_subject"))
    .scalar_subquery()
)
_OTHERS = update(accounts).where(accounts.c.user_name == bindparam("b_name"), accounts.c.id != bindparam("b_id"))
_CHANGE = update(accounts).where(accounts.c.id == bindparam("b_id"))
_LAST_UID = (
    select(account_uid).where(account_uid.c.account_id == bindparam("b_id")).order_by(account_uid.c.id.desc()).limit(1)
)
_HOLDER = (
    select(accounts.c.name)
    .where(accounts.c.uid == bindparam("b_uid"), accounts.c.id != bindparam("b_id"))
    .order_by(accounts.c.created_at)
    .limit(1)
)
_WORDS = {column.name for column in accounts.c if isinstance(column.type, Words)}
_ENTERED = select(account_rows).where(account_rows.c.name == bindparam("b_name"))


@dataclass(frozen=True)
class AccountRow(Account):
    """An account with the JupyterHub user that has it now."""

    user_name: str = ""


@dataclass(frozen=True)
class UidChange:
    """A uid that an account is said to have now and that nobody has confirmed yet: another one, or somebody's."""

    account_id: str
    old_uid: int
    new_uid: int
    new_gid: int
    seen_at: datetime
    holder: str = ""
    """The name of another account that has ``new_uid`` here."""


class Accounts:
    """The accounts of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def upsert(
        self,
        account: Account,
        identity_key: tuple[str, str],
        user_name: str,
        now: datetime,
        proof: str = "sign-in",
        *,
        share_uid: bool = False,
    ) -> AccountRow:
        """Store what the sources say about an identity's account, and return it with its lasting id.

        ``proof`` says where the link comes from when it is made: ``sign-in``, or ``directory entry``.

        The id is made once per (issuer, subject) and never changes; ``account.id`` is not looked at. A uid that
        differs from the one known, or that is another account's (unless ``share_uid``), is remembered, but must not
        run: AccountRefused, until ``confirm_uid``.
        """
        stored, change = self._db.write(_upsert, account, identity_key, user_name, now, proof, share_uid)
        if change is not None and change.holder:
            raise AccountRefused(
                f"The account {account.name} is said to have uid {change.new_uid}, which {change.holder} has here "
                "under another identity. Nothing runs as a uid of two people: whoever administers the directory can "
                "correct it; where it was handed on for good, an administrator of this hub confirms it.",
                reason="uid_taken",
            )
        if change is not None:
            raise AccountRefused(
                f"The account {account.name} had uid {change.old_uid} here and is now said to have "
                f"{change.new_uid}. Nothing runs under another uid before an administrator has confirmed it.",
                reason="uid_changed",
            )
        return stored

    def by_id(self, account_id: str) -> AccountRow | None:
        """The account of this id."""
        return self._db.read(_one, accounts.c.id == account_id)

    def by_user_name(self, user_name: str) -> AccountRow | None:
        """The account that the JupyterHub user of this name has now."""
        return self._db.read(_one, accounts.c.user_name == user_name)

    def rename_user(self, old: str, new: str | None) -> None:
        """The JupyterHub user ``old`` is called ``new`` from now on; None: there is no such user any more."""
        self._db.write(_rename_user, old, new)

    def set_user_name(self, account_id: str, name: str) -> bool:
        """The JupyterHub user who has this account is called ``name``; True where the ledger knew another name."""
        stored = self.by_id(account_id)
        if stored is None or stored.user_name == name:
            return False
        self._db.write(_set_user_name, account_id, name)
        return True

    def user_names(self, account_ids: Sequence[str]) -> Mapping[str, str]:
        """Account → the JupyterHub user who has it now, of those that are there."""
        query = select(accounts.c.id, accounts.c.user_name).where(accounts.c.id.in_(sorted(set(account_ids))))
        return self._db.read(lambda c: {row.id: row.user_name for row in c.execute(query)})

    def by_identity(self, issuer: str, subject: str) -> AccountRow | None:
        """The account that an identity is linked to."""
        return self._db.read(linked, issuer, subject)

    def list(self) -> list[AccountRow]:
        """All accounts, by name."""
        query = select(accounts).order_by(accounts.c.name)
        return self._db.read(lambda c: [_account(row) for row in c.execute(query)])

    # ------------------------------------------------------------ uid history

    def uid_changes(self) -> Sequence[UidChange]:
        """Changes of uid that wait for an administrator."""
        return self._db.read(_uid_changes)

    def confirm_uid(self, account_id: str, by: str, now: datetime) -> AccountRow:
        """Take over the uid and gid seen last; audited. Raises NotFound where nothing waits."""
        return self._db.write(_confirm_uid, account_id, by, now)

    # ------------------------------------------------------------ administrator's rows

    def set_row(self, row: Account, *, by: str, now: datetime, why: str = "") -> None:
        """Enter POSIX facts for the login name ``row.name``; audited. ``id`` and ``source`` are not kept."""
        self._db.write(_set_row, row, by, now, why)

    def get_row(self, name: str) -> Account | None:
        """What an administrator entered for this login name; its ``id`` is empty, its source ``admin``."""
        return self._db.read(_get_row, name)

    def delete_row(self, name: str, *, by: str, now: datetime, why: str = "") -> None:
        """Remove an entered row; audited. Raises NotFound."""
        self._db.write(_delete_row, name, by, now, why)


# ---------------------------------------------------------------- accounts


def _columns(account: Account) -> dict[str, Any]:
    names = ("name", "uid", "gid", "home", "shell", "source", "display_name", "fetched_at")
    return {**{name: getattr(account, name) for name in names}, "groups": [asdict(g) for g in account.groups]}


def _account(row: Row[Any]) -> AccountRow:
    values = dict(row._mapping)
    del values["created_at"]
    groups = tuple(AccountGroup(**group) for group in values.pop("groups"))
    return AccountRow(**{**values, "groups": groups, "user_name": values["user_name"] or ""})


def _one(c: Connection, where: Any) -> AccountRow | None:
    row = c.execute(select(accounts).where(where)).one_or_none()
    return None if row is None else _account(row)


def linked(c: Connection, issuer: str, subject: str) -> AccountRow | None:
    """The account that an identity is linked to, in the caller's transaction."""
    row = c.execute(_LINKED, {"b_issuer": issuer, "b_subject": subject}).one_or_none()
    return None if row is None else _account(row)


def _upsert(
    c: Connection,
    account: Account,
    key: tuple[str, str],
    user_name: str,
    now: datetime,
    proof: str,
    share_uid: bool,
) -> tuple[AccountRow, UidChange | None]:
    issuer, subject = key
    old = linked(c, issuer, subject)
    holder = "" if share_uid else _holder(c, account.uid, old.id if old is not None else "")
    # A name that went to another person goes with all its rights to nobody: the keys are ids.
    others = update(accounts).where(accounts.c.user_name == user_name)
    if old is None:
        c.execute(others.values(user_name=None))
        account_id = new_id()
        c.execute(insert(accounts).values(id=account_id, user_name=user_name, created_at=now, **_columns(account)))
        link = {"issuer": issuer, "subject": subject, "account_id": account_id, "proof": proof, "made_at": now}
        c.execute(insert(links).values(**link))
        seen = {"account_id": account_id, "uid": account.uid, "gid": account.gid, "seen_at": now}
        confirmed = {} if holder else {"confirmed_at": now, "confirmed_by": f"first {proof}"}
        c.execute(insert(account_uid).values(**seen, **confirmed))
        stored = _stored(c, account_id)
        return stored, UidChange(account_id, account.uid, account.uid, account.gid, now, holder) if holder else None
    if old.uid != account.uid or (holder and not _confirmed(c, old.id, account.uid)):
        return old, _uid_changed(c, old, account, now, holder)
    waiting = _waiting(c, old.id)
    if waiting is not None and waiting.uid == account.uid:
        freed = {"confirmed_at": now, "confirmed_by": "nobody else has it any more"}
        c.execute(update(account_uid).where(account_uid.c.id == waiting.id).values(**freed))
    c.execute(_OTHERS, {"b_name": user_name, "b_id": old.id, "user_name": None})
    c.execute(_CHANGE, {"b_id": old.id, "user_name": user_name, **_columns(account)})
    take_back(c, old.id)
    # As it is written now, not read again.
    facts = {f.name: getattr(account, f.name) for f in fields(Account)}
    facts |= {name: clean(facts[name]) for name in _WORDS}
    groups = tuple(AccountGroup(clean(group.name), group.gid) for group in account.groups)
    return AccountRow(**{**facts, "groups": groups, "id": old.id, "user_name": user_name}), None


def _rename_user(c: Connection, old: str, new: str | None) -> None:
    if new is not None:
        # No other user has this name: whoever is called so here is gone, or has another name by now.
        c.execute(update(accounts).where(accounts.c.user_name == new).values(user_name=None))
    c.execute(update(accounts).where(accounts.c.user_name == old).values(user_name=new))


def _set_user_name(c: Connection, account_id: str, name: str) -> None:
    c.execute(update(accounts).where(accounts.c.user_name == name).values(user_name=None))
    c.execute(update(accounts).where(accounts.c.id == account_id).values(user_name=name))


def _stored(c: Connection, account_id: str) -> AccountRow:
    row = _one(c, accounts.c.id == account_id)
    if row is None:
        raise NotFound(f"There is no account {account_id}.")
    return row


# ---------------------------------------------------------------- uid history


def _waiting(c: Connection, account_id: str) -> Row[Any] | None:
    """The newest uid of an account, if it is not confirmed."""
    row = c.execute(_LAST_UID, {"b_id": account_id}).one_or_none()
    return row if row is not None and row.confirmed_at is None else None


def _confirmed(c: Connection, account_id: str, uid: int) -> bool:
    """Whether this account may have this uid: its first one, which nobody had, or one that was confirmed."""
    query = select(account_uid.c.id).where(account_uid.c.account_id == account_id, account_uid.c.uid == uid)
    return c.execute(query.where(account_uid.c.confirmed_at.is_not(None)).limit(1)).first() is not None


def _holder(c: Connection, uid: int, but: str) -> str:
    """The name of the oldest other account with this uid, or nothing."""
    return str(c.execute(_HOLDER, {"b_uid": uid, "b_id": but}).scalar_one_or_none() or "")


def _uid_changed(c: Connection, old: AccountRow, new: Account, now: datetime, holder: str) -> UidChange:
    waiting = _waiting(c, old.id)
    if waiting is None or (waiting.uid, waiting.gid) != (new.uid, new.gid):
        c.execute(insert(account_uid).values(account_id=old.id, uid=new.uid, gid=new.gid, seen_at=now))
    return UidChange(old.id, old.uid, new.uid, new.gid, now, holder)


def _uid_changes(c: Connection) -> list[UidChange]:
    query = select(account_uid.c.account_id).where(account_uid.c.confirmed_at.is_(None)).distinct()
    changes = []
    for account_id in c.execute(query).scalars().all():
        waiting, stored = _waiting(c, account_id), _stored(c, account_id)
        if waiting is None:
            continue
        holder = _holder(c, waiting.uid, account_id)
        # One that was seen and then corrected by the directory itself needs nobody.
        if waiting.uid != stored.uid or holder:
            changes.append(UidChange(account_id, stored.uid, waiting.uid, waiting.gid, waiting.seen_at, holder))
    return changes


def _confirm_uid(c: Connection, account_id: str, by: str, now: datetime) -> AccountRow:
    old, waiting = _stored(c, account_id), _waiting(c, account_id)
    if waiting is None:
        raise NotFound(f"No change of uid waits for a confirmation for the account {old.name}.")
    confirmed = {"confirmed_at": now, "confirmed_by": by}
    c.execute(update(account_uid).where(account_uid.c.id == waiting.id).values(**confirmed))
    c.execute(update(accounts).where(accounts.c.id == account_id).values(uid=waiting.uid, gid=waiting.gid))
    before, after = {"uid": old.uid, "gid": old.gid}, {"uid": waiting.uid, "gid": waiting.gid}
    audit.write(c, at=now, who=by, action="uid_confirm", subject=f"account:{account_id}", old=before, new=after)
    return replace(old, uid=waiting.uid, gid=waiting.gid)


# ---------------------------------------------------------------- administrator's rows


def _row_json(row: Account) -> Json:
    groups = [asdict(group) for group in row.groups]
    return {"uid": row.uid, "gid": row.gid, "groups": groups, "home": row.home, "shell": row.shell}


def _set_row(c: Connection, row: Account, by: str, now: datetime, why: str) -> None:
    old = _get_row(c, row.name)
    values = {**_row_json(row), "display_name": row.display_name, "set_by": by, "set_at": now}
    statement = upsert(c, account_rows).values(name=row.name, **values)
    c.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    before = None if old is None else _row_json(old)
    subject = f"account_row:{row.name}"
    audit.write(c, at=now, who=by, action="account_row_set", subject=subject, old=before, new=_row_json(row), why=why)


def _get_row(c: Connection, name: str) -> Account | None:
    row = c.execute(_ENTERED, {"b_name": name}).one_or_none()
    if row is None:
        return None
    return Account(
        id="",
        name=row.name,
        uid=row.uid,
        gid=row.gid,
        groups=tuple(AccountGroup(**group) for group in row.groups),
        home=row.home,
        shell=row.shell,
        source="admin",
        fetched_at=row.set_at,
        display_name=row.display_name,
    )


def _delete_row(c: Connection, name: str, by: str, now: datetime, why: str) -> None:
    old = _get_row(c, name)
    if old is None:
        raise NotFound(f"No row was entered for {name}.")
    c.execute(delete(account_rows).where(account_rows.c.name == name))
    subject = f"account_row:{name}"
    audit.write(c, at=now, who=by, action="account_row_delete", subject=subject, old=_row_json(old), why=why)
