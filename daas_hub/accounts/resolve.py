"""Identity → Account, at every start, from all sources that are configured (design.md §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daas_hub.clients import nss as system
from daas_hub.core.account import AccountPolicy, Claim, known, merge
from daas_hub.core.errors import AccountRefused
from daas_hub.core.models import Account, AccountGroup, Identity
from daas_hub.core.sid_map import SidSettings, of_domain, posix_id

from .allocator import Allocator

AdminRow = Callable[[str], Awaitable[Account | None]]


@dataclass(frozen=True)
class Sources:
    """Which sources are asked beside the administrator's rows."""

    posix_attributes: bool = True
    """The directory's uidNumber, gidNumber and groups with gidNumber."""
    sids: SidSettings | None = None
    """How the directory's SIDs are mapped; None: they are not."""
    nss: bool = True
    """This machine."""


async def resolve(
    identity: Identity,
    *,
    sources: Sources,
    admin_row: AdminRow,
    policy: AccountPolicy,
    now: datetime,
    allocator: Allocator | None = None,
    home: str | None = None,
) -> Account:
    """The account of ``identity``, its id still empty.

    ``admin_row``: what an administrator entered for a name; ``allocator``: who gives numbers to whom nobody else
    gives any; ``home``: where no source names one. Raises AccountRefused (sources disagree, or the account must not
    run) and AccountUnresolved (nobody knows it, or nobody answers).
    """
    claims = []
    row = await admin_row(identity.name)
    if row is not None:
        claims.append(entered(row))
    claims.append(directory_claim(identity, posix=sources.posix_attributes))
    if sources.sids is not None:
        claims.append(sid_claim(identity, sources.sids))
    if sources.nss:
        claims.append(await system.ask(identity.name))
    if allocator is not None:
        claims += await _allocated(allocator, identity, claims, now)
    return merge(identity.name, claims, policy, now, home=home)


async def _allocated(
    allocator: Allocator, identity: Identity, claims: Sequence[Claim], now: datetime
) -> Sequence[Claim]:
    """Numbers of our own: those that she was given once, and new ones only where all others say nothing."""
    given = await allocator.given(identity, now)
    if given is not None:
        return [given]
    return [] if known(claims) else [await allocator.give(identity, now)]


def directory_claim(identity: Identity, *, posix: bool = True) -> Claim:
    """What the directory's RFC 2307 attributes claim; numbers that are none are refused, not skipped.

    Without ``posix`` only what is no number.
    """
    attributes = identity.attributes
    groups = (attributes.get("posix_groups") or ()) if posix else ()
    return Claim(
        source=identity.issuer,
        name=identity.name,
        uid=_number(identity, "uid_number") if posix else None,
        gid=_number(identity, "gid_number") if posix else None,
        groups=tuple(AccountGroup(str(name), int(gid)) for name, gid in groups),
        home=attributes.get("home"),
        shell=attributes.get("shell"),
        display_name=identity.display_name,
    )


def sid_claim(identity: Identity, settings: SidSettings) -> Claim:
    """What the SIDs of her entry and her groups become. Raises AccountRefused where one has no number of its own.

    Groups that are of no domain (the built-in ones) are no POSIX groups, as for sssd.
    """
    attributes, source = identity.attributes, f"SIDs of {identity.issuer}"
    sid, primary = attributes.get("sid"), attributes.get("primary_group_sid")
    if sid is None:
        return Claim(source, identity.name, None, None)
    found = [(str(name), str(group)) for name, group in attributes.get("group_sids") or () if of_domain(str(group))]
    return Claim(
        source=source,
        name=identity.name,
        uid=posix_id(settings, str(sid)),
        gid=None if primary is None else posix_id(settings, str(primary)),
        groups=tuple(AccountGroup(name, posix_id(settings, group)) for name, group in found),
    )


def entered(row: Account) -> Claim:
    """What an administrator entered."""
    return Claim("administrator", row.name, row.uid, row.gid, row.groups, row.home, row.shell, row.display_name)


def _number(identity: Identity, name: str) -> int | None:
    value: Any = identity.attributes.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise AccountRefused(
            f"{identity.issuer} gives {str(value)[:40]!r} as {name} of {identity.name}; a whole number is needed. "
            "Whoever administers the directory can correct it.",
            reason="incomplete",
        )
    return value
