"""From what several sources claim to one account, or to a refusal that names what is wrong (design.md §7). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .errors import AccountRefused, AccountUnresolved
from .models import Account, AccountGroup

SYSTEMD_UIDS = "https://systemd.io/UIDS-GIDS/"
RESERVED: tuple[tuple[int, int], ...] = (
    # systemd-homed and the users that systemd maps from a host (SYSTEMD_UIDS)
    (60001, 60577),
    # DynamicUser= of services (SYSTEMD_UIDS)
    (61184, 65519),
    # nobody (65534) and the 16-bit "no uid" (65535), with what lies between
    (65520, 65535),
    # negative in the signed arithmetic of older programs and file systems; 2^32-1 is "no uid" itself
    (2**31, 2**32 - 1),
)
NO_ID = 2**32 - 1
"""(uid_t) -1, "no uid"; what is larger would wrap round in the kernel's 32 bits, 2^32 to root."""
DENIED = ("root", "daemon", "bin", "sys", "nobody", "sshd", "slurm", "munge", "postgres", "www-data")


@dataclass(frozen=True)
class AccountPolicy:
    """Which accounts may run servers at all."""

    min_uid: int = 1000
    reserved: tuple[tuple[int, int], ...] = RESERVED
    denied: frozenset[str] = frozenset(DENIED)


@dataclass(frozen=True)
class Claim:
    """What one source says about an account; None where it says nothing."""

    source: str
    name: str
    uid: int | None
    gid: int | None
    groups: tuple[AccountGroup, ...] = ()
    home: str | None = None
    shell: str | None = None
    display_name: str = ""


def known(claims: Iterable[Claim]) -> list[Claim]:
    """The claims of sources that know the account."""
    return [claim for claim in claims if claim.uid is not None or claim.gid is not None]


def merge(
    name: str, claims: Sequence[Claim], policy: AccountPolicy, now: datetime, *, home: str | None = None
) -> Account:
    """The account that all ``claims`` agree on, its id still empty.

    Claims come in order of trust: the first that gives a home, shell or display name is taken, ``home`` where none
    does. uid and gid must be the same in all. Raises AccountUnresolved where nobody knows the account, else
    AccountRefused.
    """
    said = known(claims)
    if not said:
        asked = ", ".join(claim.source for claim in claims) or "no source"
        raise AccountUnresolved(
            f"No POSIX account is known for {name} (asked: {asked}). An administrator can add uidNumber, gidNumber "
            "and homeDirectory in the directory, or enter them on the accounts page.",
            reason="account_unknown",
        )
    uid = _agreed(name, "uid", [(c.source, c.uid) for c in said])
    gid = _agreed(name, "gid", [(c.source, c.gid) for c in said])
    home = next((c.home for c in claims if c.home), home)
    if home is None or not _usable(home):
        given = repr(home[:80]) if home else "none given"
        raise AccountRefused(
            f"The account {name} has no usable home folder ({given} by {_sources(said)}); an absolute path is "
            "needed. Whoever administers the directory can set homeDirectory, an administrator of this hub "
            "DaasSpawner.fallback_home.",
            reason="no_home",
        )
    groups = _groups(name, gid, said)
    account = Account(
        id="",
        name=name,
        uid=uid,
        gid=gid,
        groups=groups,
        home=home.rstrip("/"),
        shell=next((c.shell for c in claims if c.shell), "/bin/sh"),
        source=_sources(said),
        fetched_at=now,
        display_name=next((c.display_name for c in claims if c.display_name), ""),
    )
    check(account, policy)
    return account


def check(account: Account, policy: AccountPolicy) -> None:
    """Raise AccountRefused for accounts that never run a server: root, system and reserved ids, denied names."""
    name, uid = account.name, account.uid
    if name in policy.denied:
        raise _refused(name, f"the name {name} is a system account's", "DaasSpawner.denied_accounts")
    if uid < policy.min_uid:
        raise _refused(name, f"uid {uid} is below the lowest one allowed, {policy.min_uid}", "DaasSpawner.min_uid")
    if uid >= NO_ID:
        raise _refused(name, f"uid {uid} is not a user", "the directory")
    for first, last in policy.reserved:
        if first <= uid <= last:
            raise _refused(name, f"uid {uid} lies in the reserved range {first}-{last}", "DaasSpawner.reserved_uids")
    if any(group.gid == 0 for group in account.groups) or account.gid == 0:
        raise _refused(name, "it is in the group with gid 0 (root)", "the directory")
    for group in (AccountGroup("", account.gid), *account.groups):
        _check_group(name, group, policy)


def _check_group(name: str, group: AccountGroup, policy: AccountPolicy) -> None:
    """Refuse rather than drop: whoever gave her that group meant something by it, and access would go silently."""
    shown = f" ({group.name})" if group.name else ""
    if not 0 < group.gid < NO_ID:
        raise _refused(name, f"gid {group.gid}{shown} is not a group", "the directory")
    for first, last in policy.reserved:
        if first <= group.gid <= last:
            why = f"gid {group.gid}{shown} lies in the reserved range {first}-{last}"
            raise _refused(name, why, "the directory, or in DaasSpawner.reserved_uids")


def _usable(path: str) -> bool:
    """An absolute path below the root, without turns, that fits into a passwd line."""
    parts = path.split("/")
    plain = all(c.isprintable() and c != ":" for c in path)
    return path.startswith("/") and any(parts) and plain and not {".", ".."} & set(parts)


def _refused(name: str, why: str, where: str) -> AccountRefused:
    return AccountRefused(
        f"The account {name} must not run a server: {why}. An administrator can change this in {where}."
    )


def _agreed(name: str, what: str, said: Sequence[tuple[str, int | None]]) -> int:
    missing = [source for source, value in said if value is None]
    if missing:
        raise AccountRefused(
            f"The account {name} has no {what} in {', '.join(missing)}; nothing is guessed. Whoever administers that "
            "source can add it.",
            reason="incomplete",
        )
    values = {source: value for source, value in said if value is not None}
    if len(set(values.values())) > 1:
        parts = " but ".join(f"{value} by {source}" for source, value in values.items())
        raise AccountRefused(
            f"The sources disagree on the {what} of {name}: {parts}. They may be two different people; an "
            "administrator must correct one of them.",
            reason="disagreement",
        )
    return next(iter(values.values()))


def _groups(name: str, gid: int, claims: Iterable[Claim]) -> tuple[AccountGroup, ...]:
    """The union, each gid once. One name with two gids is a disagreement as much as two uids are."""
    by_gid: dict[int, str] = {}
    by_name: dict[str, tuple[int, str]] = {}
    for claim in claims:
        for group in claim.groups:
            number, source = by_name.setdefault(group.name, (group.gid, claim.source))
            if number != group.gid:
                raise AccountRefused(
                    f"The sources disagree on the group {group.name} of {name}: gid {number} by {source} but "
                    f"{group.gid} by {claim.source}. An administrator must correct one of them.",
                    reason="disagreement",
                )
            by_gid.setdefault(group.gid, group.name)
    by_gid.setdefault(gid, name)
    return tuple(AccountGroup(group_name, number) for number, group_name in sorted(by_gid.items()))


def _sources(claims: Iterable[Claim]) -> str:
    return "+".join(claim.source for claim in claims)
