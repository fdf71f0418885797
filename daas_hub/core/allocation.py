"""Ranges of numbers that this hub gives away itself: what they may be. Pure; the rows are in ``db/allocations.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from .account import NO_ID, AccountPolicy
from .errors import AccountUnresolved, ConfigError

Ranges = tuple[tuple[int, int], ...]
"""First and last number of each, in the order in which they are used up."""
SOURCE = "allocator"
"""What accounts say where their numbers come from."""
SETTING = {"uid": "DaasSpawner.allocated_uids", "gid": "DaasSpawner.allocated_gids"}


class Kind(StrEnum):
    """What a number is given away as."""

    UID = "uid"
    GID = "gid"


def check_ranges(
    uids: Sequence[Sequence[int]],
    gids: Sequence[Sequence[int]],
    policy: AccountPolicy,
    sids: Sequence[Sequence[int]] = (),
) -> None:
    """Raise ConfigError for ranges of which an account could not run, or that are there for uids or gids only.

    ``sids``: the range of numbers that SIDs are mapped to.
    """
    if bool(uids) != bool(gids):
        there, missing = (SETTING["uid"], SETTING["gid"]) if uids else (SETTING["gid"], SETTING["uid"])
        raise ConfigError(f"{there} is set, {missing} is not: an account needs both. Set both or none.")
    for kind, ranges in ((Kind.UID, uids), (Kind.GID, gids)):
        lowest = policy.min_uid if kind is Kind.UID else 1
        before: list[Sequence[int]] = []
        for each in ranges:
            others = {"the reserved range": policy.reserved, "the range of SIDs,": sids, "another range,": before}
            _check_range(kind, each, lowest, others)
            before.append(each)


def _check_range(kind: Kind, given: Sequence[int], lowest: int, taken: Mapping[str, Sequence[Sequence[int]]]) -> None:
    first, last = given
    if not lowest <= first <= last < NO_ID:
        raise ConfigError(
            f"{SETTING[kind]}: {list(given)} is no range within {lowest}-{NO_ID - 1}, first number first."
        )
    for what, others in taken.items():
        for other in others:
            if first <= other[1] and other[0] <= last:
                raise ConfigError(f"{SETTING[kind]}: {list(given)} overlaps {what} {other[0]}-{other[1]}.")


def exhausted(kind: Kind, ranges: Ranges, name: str) -> AccountUnresolved:
    """The refusal where all numbers are gone."""
    told = ", ".join(f"{first}-{last}" for first, last in ranges)
    return AccountUnresolved(
        f"{name} cannot be given a {kind}: none is left in {told}. An administrator of this hub can add a range to "
        f"{SETTING[kind]}; numbers of people who have left are never given away again.",
        reason="allocator_exhausted",
    )
