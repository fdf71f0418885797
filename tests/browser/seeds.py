"""Life for the console: accounts, launches in several states, limits, and texts that try to be code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from daas_hub.core.models import Account, AccountGroup, Charge, Event, LaunchState, Resource, Target, Who
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import LaunchRow, Ledger, Reservation
from daas_hub.db.volumes import Volume

HOSTILE = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">{{7*7}}{%raw%}\'"&lt;'
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def account(ledger: Ledger, name: str, uid: int, *, display_name: str = "") -> Account:
    """The account of a user of the same name; made when it is first asked for."""
    made = Account(
        id=new_id(),
        name=name,
        uid=uid,
        gid=uid,
        groups=(AccountGroup(name, uid),),
        home=f"/home/{name}",
        shell="/bin/bash",
        source="ldap",
        fetched_at=NOW,
        display_name=display_name,
    )
    return ledger.accounts.upsert(made, ("ldap:test", name), name, NOW)


def launch(
    ledger: Ledger,
    owner: Account,
    server: str = "",
    *,
    profile: str = "Basic",
    handle: dict[str, object] | None = None,
    minutes_ago: int = 10,
    groups: tuple[str, ...] = ("lab",),
) -> LaunchRow:
    """A running launch of 1 core and 1 GiB."""
    at = NOW - timedelta(minutes=minutes_ago)
    row = ledger.reserve(
        Reservation(
            launch_id=new_id(),
            hub_boot_id="boot",
            account_id=owner.id,
            user_name=owner.name,
            server_name=server,
            groups=groups,
            project=None,
            profile="basic",
            charge=Charge(cores=1.0, memory_bytes=2**30),
            backend="local",
            request={"version": 1, "profile_display_name": profile},
            api_token_encrypted=None,
            source="hub",
        ),
        now=at,
    )
    ledger.add_events(row.id, [Event(at=at, message=f"Starting {profile}", detail=profile)])
    ledger.move(row.id, LaunchState.SUBMITTED, now=at)
    ledger.save_handle(row.id, {"backend": "local", "version": 1, "launch_id": row.id, **(handle or {})}, now=at)
    return ledger.move(row.id, LaunchState.RUNNING, now=at)


def stopping(ledger: Ledger, row: LaunchRow, reason: str) -> LaunchRow:
    """The launch is being stopped, and nobody can say that it has ended."""
    ledger.set_target(row.id, Target.STOPPED, now=NOW, reason=reason, by="culler")
    return ledger.move(row.id, LaunchState.STOPPING, now=NOW)


def ended(ledger: Ledger, row: LaunchRow, reason: str) -> None:
    """The launch has ended."""
    ledger.settle(row.id, code=0, reason=reason, evidence="seen by a test", now=NOW)


def volume(
    ledger: Ledger,
    owner: Account | None,
    name: str = "home",
    *,
    gid: int | None = None,
    growth: str = "",
    why: str = "",
) -> Volume:
    """A volume that a start has seen; ``growth``: a state of one that should have 2 GiB."""
    account_id = owner.id if owner is not None else None
    claim = {"version": 1, "kind": "claim"}
    made = ledger.volumes.ensure(name, "kubernetes", claim, now=NOW, account_id=account_id, group_gid=gid)
    told = {"state": growth, "has": "1Gi", "to": "2Gi", "why": why, "at": NOW.isoformat()}
    ledger.volumes.record_made(made.id, {"claim": f"daas-{made.id}", **({"growth": told} if growth else {})})
    return ledger.volumes.get(made.id)


class Volumes:
    """One of each kind: refused, growing, of a project, of a user who is gone."""

    def __init__(self, ledger: Ledger) -> None:
        alice, bob, carol = (
            account(ledger, name, uid) for name, uid in (("alice", 5001), ("bob", 5002), ("carol", 5003))
        )
        ledger.projects.set("beam", by="admin:seed", now=NOW, gid=5100)
        self.home = volume(ledger, alice, growth="refused", why="disks of the class <slow> cannot grow")
        self.crew = volume(ledger, None, "groups:crew", gid=5100)
        self.growing = volume(ledger, bob, growth="resizing")
        self.kept = volume(ledger, carol)
        ledger.volumes.retain("carol", now=NOW, expires_at=NOW + timedelta(days=90))
        ledger.accounts.rename_user("carol", None)


def limits(ledger: Ledger) -> None:
    """One of each kind that part A has."""
    for who, name, resource, amount in (
        (Who.DEFAULT_EACH, "", Resource.SERVERS, 5),
        (Who.GROUP_EACH, "lab", Resource.MEMORY_BYTES, 8 * 2**30),
        (Who.GROUP_TOTAL, "lab", Resource.CORES, 16),
    ):
        ledger.limits.set(who, name, resource, amount, "admin:seed", NOW, "seeded")


def groups(ledger: Ledger, member: Account) -> None:
    """A local group with a member, one whose name the directory has, too, and a project."""
    by = {"by": "admin:seed", "now": NOW}
    ledger.local_groups.create("gpu-users", "may <b>use</b> {{7*7}} GPUs", **by)
    ledger.local_groups.add_member("gpu-users", member.id, **by)
    ledger.local_groups.create("twice", **by)
    ledger.local_groups.note_directory("ldap:site", ["Jupyter Users", "twice"], NOW)
    ledger.projects.set("p-2026", title="Proposal", **by)
    ledger.projects.add_member("p-2026", member.id, **by)
