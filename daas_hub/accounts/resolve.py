"""Identity → Account, at every start, from all sources that are configured (design.md §7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from daas_hub.clients import nss as system
from daas_hub.core.account import AccountPolicy, Claim, known, merge
from daas_hub.core.errors import AccountRefused
from daas_hub.core.models import Account, AccountGroup, Identity

from .allocator import Allocator

AdminRow = Callable[[str], Awaitable[Account | None]]


async def resolve(
    identity: Identity,
    *,
    nss: bool,
    admin_row: AdminRow,
    policy: AccountPolicy,
    now: datetime,
    allocator: Allocator | None = None,
    home: str | None = None,
) -> Account:
    """The account of ``identity``, its id still empty.

    ``nss``: ask this machine too; ``admin_row``: what an administrator entered for a name; ``allocator``: who gives
    numbers to whom nobody else gives any; ``home``: where no source names one. Raises AccountRefused (sources
    disagree, or the account must not run) and AccountUnresolved (nobody knows it, or nobody answers).
    """
    claims = []
    row = await admin_row(identity.name)
    if row is not None:
        claims.append(entered(row))
    claims.append(directory_claim(identity))
    if nss:
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


def directory_claim(identity: Identity) -> Claim:
    """What the directory's RFC 2307 attributes claim; numbers that are none are refused, not skipped."""
    attributes = identity.attributes
    groups = attributes.get("posix_groups") or ()
    return Claim(
        source=identity.issuer,
        name=identity.name,
        uid=_number(identity, "uid_number"),
        gid=_number(identity, "gid_number"),
        groups=tuple(AccountGroup(str(name), int(gid)) for name, gid in groups),
        home=attributes.get("home"),
        shell=attributes.get("shell"),
        display_name=identity.display_name,
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
