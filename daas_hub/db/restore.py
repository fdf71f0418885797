"""Writing down again what a lost ledger knew, in one transaction. Nothing is admitted here: it runs already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from daas_hub.core import quota
from daas_hub.core.adopt import Known, NewAccount, NewLaunch, NewVolume, Plan, volume_key
from daas_hub.core.models import ACTIVE, Account, LaunchState, Target
from daas_hub.core.recall import OwnedVolume

from . import audit, balances, usage
from .accounts import AccountRow
from .engine import Database
from .rows import charge_columns
from .schema import account_uid, accounts, launch, launch_scope, links, projects, volumes
from .volumes import VolumeState, project_of

BOOT = "adopted"
"""Instead of the boot of a hub: none that runs has it, so the reconciler adopts the launch."""
BY = "daas-hub adopt"


class Restore:
    """What ``daas-hub adopt`` reads and writes of a ledger."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self) -> Known:
        """What is here."""
        return self._db.read(_known)

    def identities(self) -> dict[str, tuple[str, str]]:
        """Account → the identity that was linked to it first."""
        return self._db.read(_identities)

    def write(self, plan: Plan, tokens: dict[str, bytes], *, now: datetime) -> None:
        """Write a plan down, all of it or nothing. ``tokens``: launch → its encrypted API token."""
        self._db.write(_write, plan, tokens, now)

    def set_token(self, launch_id: str, encrypted: bytes) -> None:
        """Keep the token of a launch, encrypted by the present key."""
        one = update(launch).where(launch.c.id == launch_id).values(api_token_encrypted=encrypted)
        self._db.write(lambda c: c.execute(one) and None)

    def owned(self, of: Iterable[AccountRow]) -> list[OwnedVolume]:
        """The volumes that something was made of, with whose they are."""
        rows = {account.id: account for account in of}
        identities = self.identities()
        with_gid = volumes.outerjoin(projects, projects.c.id == volumes.c.project_id)
        query = select(volumes, projects.c.gid).select_from(with_gid).order_by(volumes.c.id)
        found = self._db.read(lambda c: list(c.execute(query)))
        return [
            OwnedVolume(
                volume_id=row.id,
                name=row.name,
                place=row.place,
                made=row.made,
                account=rows[row.account_id],
                user_name=rows[row.account_id].user_name or rows[row.account_id].name,
                identity=identities.get(row.account_id),
                let_go=row.state == VolumeState.EXPIRED.value,
                group_gid=row.gid,
            )
            for row in found
            if row.made and row.account_id in rows
        ]


def _known(c: Connection) -> Known:
    active = [state.value for state in ACTIVE]
    rows = c.execute(select(launch.c.account_id, launch.c.server_name, launch.c.id).where(launch.c.state.in_(active)))
    people = c.execute(select(accounts.c.id, accounts.c.uid, accounts.c.user_name)).all()
    there = select(volumes).where(volumes.c.account_id.is_not(None), volumes.c.made.is_not(None))
    return Known(
        accounts={row.id: row.uid for row in people},
        identities={(row.issuer, row.subject): row.account_id for row in c.execute(select(links))},
        user_names={row.user_name: row.id for row in people if row.user_name},
        launches=frozenset(c.execute(select(launch.c.id)).scalars()),
        active={(row.account_id, row.server_name): row.id for row in rows},
        volumes=frozenset(c.execute(select(volumes.c.id)).scalars()),
        made={volume_key(row.account_id, row.backend, row.name, row.place): row.id for row in c.execute(there)},
    )


def _identities(c: Connection) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for row in c.execute(select(links).order_by(links.c.id)):
        found.setdefault(row.account_id, (row.issuer, row.subject))
    return found


def _write(c: Connection, plan: Plan, tokens: dict[str, bytes], now: datetime) -> None:
    for account in plan.accounts:
        _account(c, account, now)
    for volume in plan.volumes:
        _volume(c, volume)
    for one in plan.launches:
        _launch(c, one, tokens.get(one.launch.launch_id), now)
    counts = {"accounts": len(plan.accounts), "volumes": len(plan.volumes), "launches": len(plan.launches)}
    audit.write(c, at=now, who=BY, action="adopt", subject="ledger", new=counts)


def _account(c: Connection, new: NewAccount, now: datetime) -> None:
    account: Account = new.account
    names = ("id", "name", "uid", "gid", "home", "shell", "source", "display_name", "fetched_at")
    values = {name: getattr(account, name) for name in names}
    groups = [asdict(group) for group in account.groups]
    c.execute(insert(accounts).values(**values, groups=groups, user_name=new.user_name, created_at=new.since))
    seen = {"account_id": account.id, "uid": account.uid, "gid": account.gid, "seen_at": new.since}
    c.execute(insert(account_uid).values(**seen, confirmed_at=now, confirmed_by=BY))
    if new.identity is not None:
        issuer, subject = new.identity
        link = {"issuer": issuer, "subject": subject, "account_id": account.id, "proof": BY, "made_at": now}
        c.execute(insert(links).values(**link))


def _volume(c: Connection, new: NewVolume) -> None:
    one = new.volume
    # What a start planned in a fresh ledger, and then was refused: nothing was ever made of it.
    c.execute(
        delete(volumes).where(
            volumes.c.account_id == one.account_id,
            volumes.c.backend == new.backend,
            volumes.c.name == new.note.name,
            volumes.c.made.is_(None),
        )
    )
    c.execute(
        insert(volumes).values(
            id=one.volume_id,
            account_id=one.account_id,
            project_id=project_of(c, new.note.group_gid),
            name=new.note.name,
            state=VolumeState.IN_USE.value,
            backend=new.backend,
            place=new.note.place,
            made=one.made,
            created_at=one.created_at,
        )
    )


def _launch(c: Connection, new: NewLaunch, token: bytes | None, now: datetime) -> None:
    one, note = new.launch, new.note
    charge = note.charge
    assert charge is not None  # noqa: S101  the note of a launch has one
    at = min(one.started_at, now)
    c.execute(
        insert(launch).values(
            id=one.launch_id,
            hub_boot_id=BOOT,
            account_id=one.account_id,
            user_name=note.user_name,
            server_name=one.server_name,
            profile=note.memo.profile,
            backend=new.backend,
            state=LaunchState.RUNNING.value,
            target=Target.RUNNING.value,
            created_at=at,
            started_at=at,
            heartbeat_at=now,
            request=new.request,
            handle=one.handle,
            api_token_encrypted=token,
            source="adopt",
            **charge_columns(charge),
        )
    )
    scopes = quota.scopes(one.account_id, note.memo.groups, note.memo.project)
    c.execute(insert(launch_scope), [{"launch_id": one.launch_id, "scope": scope} for scope in scopes])
    balances.lock(c, scopes)
    balances.add(c, scopes, quota.amounts(charge))
    usage.open_interval(c, one.launch_id, charge, at, source="adopt")
