"""Thirty days of a small site, written into the ledger as if they had happened: launches, usage, limits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from daas_hub.core.models import Account, AccountGroup, Charge, LaunchState, Resource, Who
from daas_hub.core.naming import new_id
from daas_hub.core.units import format_duration
from daas_hub.db.ledger import Ledger, Reservation

from .people import Person, Site

DAYS = 30
SEED = 20260101
"""The same life at every start: pages can be compared, and a test can count."""
GIB = 1 << 30
BY = "demo"

BASIC = ("basic", "Basic", Charge(cores=1.0, memory_bytes=GIB))
DATA_SCIENCE = ("data-science", "Data Science", Charge(cores=2.0, memory_bytes=2 * GIB))


@dataclass(frozen=True)
class Past:
    """One server that somebody had."""

    person: Person
    profile: tuple[str, str, Charge]
    began_at: datetime
    ended_at: datetime
    reason: str


def past(people: tuple[Person, ...], now: datetime, *, idle_after_s: int) -> Iterator[Past]:
    """Who ran what on which day, oldest first; never two servers of one person at once."""
    basic = f"idle for {format_duration(idle_after_s)} (rule Basic)"
    dice = random.Random(SEED)  # noqa: S311  repeatable, not secret
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(DAYS, 0, -1):
        date = midnight - timedelta(days=day)
        for person in people:
            if person.locked or dice.random() > (0.25 if date.weekday() >= 5 else 0.8):
                continue
            start = date + timedelta(hours=dice.randint(7, 12), minutes=dice.randint(0, 59))
            for _ in range(dice.choice((1, 1, 2))):
                minutes = dice.randint(20, 240)
                end = start + timedelta(minutes=minutes)
                profile = DATA_SCIENCE if dice.random() < 0.4 else BASIC
                idle = basic if profile is BASIC else "idle for 1 h (rule Data Science)"
                reason = dice.choice(("stopped by its owner", idle))
                yield Past(person, profile, start, end, reason)
                start = end + timedelta(minutes=dice.randint(10, 60))


def account_of(person: Person, site: Site, now: datetime) -> Account:
    """The account as the directory describes it."""
    groups = tuple(AccountGroup(name, site.gids[name]) for name in person.groups)
    if person.gid not in {group.gid for group in groups}:
        groups = (AccountGroup(person.name, person.gid), *groups)
    return Account(  # noqa: S604  a login shell, not a call of one
        id=new_id(),
        name=person.name,
        uid=person.uid,
        gid=person.gid,
        groups=groups,
        home=person.home,
        shell="/bin/sh",
        source="ldap",
        fetched_at=now,
        display_name=person.display_name,
    )


def seed(ledger: Ledger, site: Site, subjects: dict[str, tuple[str, str]], now: datetime, *, idle_after_s: int) -> int:
    """Write accounts (``subjects`` are their identity keys), thirty days of launches, limits. Returns how many."""
    # Without root everybody is the demo's own user.
    shared = len({person.uid for person in site.people}) == 1
    accounts = {
        person.name: ledger.accounts.upsert(
            account_of(person, site, now), subjects[person.name], person.name, now=now, share_uid=shared
        )
        for person in site.people
        if not person.locked
    }
    count = 0
    for item in past(site.people, now, idle_after_s=idle_after_s):
        _run(ledger, accounts[item.person.name], item)
        count += 1
    _limits(ledger, site, accounts, now)
    return count


def _run(ledger: Ledger, account: Account, item: Past) -> None:
    slug, display_name, charge = item.profile
    launch_id = new_id()
    ledger.reserve(
        Reservation(
            launch_id=launch_id,
            hub_boot_id="seed",
            account_id=account.id,
            user_name=item.person.name,
            server_name="",
            groups=item.person.groups,
            project=None,
            profile=slug,
            charge=charge,
            backend="local",
            request={"version": 1, "options": {"profile": slug}, "profile_display_name": display_name},
            api_token_encrypted=None,
            source="demo",
        ),
        now=item.began_at,
    )
    started_at = item.began_at + timedelta(seconds=4)
    ledger.move(launch_id, LaunchState.SUBMITTED, now=item.began_at)
    ledger.move(launch_id, LaunchState.RUNNING, now=started_at)
    evidence = "seeded by the demo"
    ledger.settle(launch_id, code=0, reason=item.reason, evidence=evidence, now=item.ended_at, ended_at=item.ended_at)


def _limits(ledger: Ledger, site: Site, accounts: Mapping[str, Account], now: datetime) -> None:
    """What the site allows; the last rows make one person's next start impossible while her server runs."""
    groups = list(site.gids)
    rows: list[tuple[Who, str, Resource, float, str]] = [
        (Who.DEFAULT_EACH, "", Resource.SERVERS, 3, "Enough for most"),
        (Who.DEFAULT_EACH, "", Resource.CORES, 4, "Half of this machine's share"),
        (Who.DEFAULT_EACH, "", Resource.MEMORY_BYTES, 8 * GIB, ""),
        (Who.GROUP_TOTAL, groups[1], Resource.MEMORY_BYTES, 24 * GIB, "Bought by the physics group"),
        (Who.GROUP_EACH, groups[2], Resource.SERVERS, 1, "Data course"),
    ]
    for person in site.people:
        if person.over_quota:
            key = accounts[person.name].id
            rows += [
                (Who.USER, key, Resource.CORES, 2, "Until the next proposal"),
                (Who.USER, key, Resource.MEMORY_BYTES, 2 * GIB, "Until the next proposal"),
            ]
    for who, name, resource, amount, note in rows:
        ledger.limits.set(who, name, resource, amount, by=BY, now=now, note=note)
