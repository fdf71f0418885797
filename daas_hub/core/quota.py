"""Which limits apply to a start, which one has least left, and what a refusal says. Pure: rows in, verdict out.

Amounts are compared as whole numbers (``Amounts``: cores in thousandths), so that sums are exact: the ledger's
balances agree with its rows to the last unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from .errors import Exceeded
from .models import Charge, Limit, Resource, Who
from .units import format_amount

MILLI = 1000
"""Cores are counted in thousandths, as Kubernetes does."""

TOTALS = frozenset({Who.GROUP_TOTAL, Who.PROJECT_TOTAL})
"""Limits on all launches of a group or project together; every other limit is per person."""


class Amounts(NamedTuple):
    """How much of each resource, in whole units: servers, thousandths of a core, bytes, GPUs."""

    servers: int = 0
    cores: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def plus(self, other: Amounts, times: int = 1) -> Amounts:
        """The sum with ``times`` × ``other``."""
        return Amounts(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))

    def of(self, resource: Resource) -> int:
        """The amount of one resource."""
        return int(getattr(self, resource.value))


def whole(resource: Resource, amount: float, *, up: bool) -> int:
    """An amount in whole units, rounded ``up`` (what is asked) or down (what is allowed)."""
    factor = MILLI if resource is Resource.CORES else 1
    exact = Decimal(str(amount)) * factor
    return int(exact.to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))


def storable(resource: Resource, amount: float) -> bool:
    """False where the amount of a limit has parts smaller than the unit in which it is counted."""
    return whole(resource, amount, up=False) == whole(resource, amount, up=True)


def step(resource: Resource) -> str:
    """The smallest difference between two amounts, as a refusal says it."""
    return "a number in steps of 0.001" if resource is Resource.CORES else "a whole number"


def plain(resource: Resource, units: int) -> float:
    """Whole units as people write them: cores as a float, all else as it is."""
    return units / MILLI if resource is Resource.CORES else units


def amounts(charge: Charge) -> Amounts:
    """What a charge adds to balances; an unknown amount (None) adds nothing."""
    return Amounts(
        charge.servers,
        0 if charge.cores is None else whole(Resource.CORES, charge.cores, up=True),
        charge.memory_bytes or 0,
        charge.gpus,
    )


# ---------------------------------------------------------------- scopes


def scopes(account_id: str, groups: Iterable[str], project: str | None) -> tuple[str, ...]:
    """The scopes that a launch counts against, sorted: the order in which they are locked."""
    keys = {f"user:{account_id}", *(f"group:{name}" for name in groups)}
    if project:
        keys.add(f"project:{project}")
    return tuple(sorted(keys))


def scope_of(limit: Limit, account_id: str) -> str:
    """The scope whose balance a limit is compared with."""
    match limit.who:
        case Who.GROUP_TOTAL:
            return f"group:{limit.name}"
        case Who.PROJECT_TOTAL:
            return f"project:{limit.name}"
        case _:
            return f"user:{account_id}"


# ---------------------------------------------------------------- which limits apply


def applying(
    limits: Iterable[Limit], *, account_id: str, groups: Sequence[str], project: str | None, now: datetime | None = None
) -> tuple[Limit, ...]:
    """The limits on use at once that a start must pass, each resource's per-person limit first.

    Per person and resource: her own row, else the largest group-each of her groups, else default-each. Totals of
    her groups and of the project apply besides. Rows with a window or a selector, and rows outside of their dates,
    do not apply; without ``now`` no row with dates does.
    """
    own: dict[Resource, Limit] = {}
    each: dict[Resource, Limit] = {}
    default: dict[Resource, Limit] = {}
    totals: list[Limit] = []
    for row in limits:
        if row.selector or row.window_s is not None or not _in_dates(row, now):
            continue
        match row.who:
            case Who.USER if row.name == account_id:
                own[row.resource] = row
            case Who.GROUP_EACH if row.name in groups:
                best = each.get(row.resource)
                if best is None or row.amount > best.amount:
                    each[row.resource] = row
            case Who.DEFAULT_EACH:
                default[row.resource] = row
            case Who.GROUP_TOTAL if row.name in groups:
                totals.append(row)
            case Who.PROJECT_TOTAL if row.name == project:
                totals.append(row)
            case _:
                pass
    per_person = {**default, **each, **own}
    return (*(per_person[r] for r in Resource if r in per_person), *totals)


def _in_dates(row: Limit, now: datetime | None) -> bool:
    if row.starts_at is None and row.ends_at is None:
        return True
    if now is None:
        return False
    return (row.starts_at is None or row.starts_at <= now) and (row.ends_at is None or now < row.ends_at)


# ---------------------------------------------------------------- the decision


@dataclass(frozen=True)
class Uncounted:
    """A resource is limited, but the profile does not say how much of it a server may take."""

    resource: Resource
    limit: Limit


def uncounted(applies: Iterable[Limit], charge: Charge) -> Uncounted | None:
    """The first limit that cannot be judged, because the charge is unknown in its resource."""
    for limit in applies:
        if getattr(charge, limit.resource.value) is None:
            return Uncounted(limit.resource, limit)
    return None


def exceeded(
    applies: Iterable[Limit], used: Mapping[str, Amounts], charge: Charge, account_id: str
) -> tuple[Exceeded, ...]:
    """The limits that ``charge`` would pass on top of ``used`` (scope → amounts), the one with least left first.

    Least left is meant in proportion to what is asked, so that resources can be compared; equals keep their order.
    A start that asks nothing of a resource passes its limits, also one that is overdrawn already.
    """
    asks = amounts(charge)
    found: list[tuple[float, Exceeded]] = []
    for limit in applies:
        asked = asks.of(limit.resource)
        in_use = used.get(scope_of(limit, account_id), Amounts()).of(limit.resource)
        left = whole(limit.resource, limit.amount, up=False) - in_use
        if asked <= 0 or asked <= left:
            continue
        numbers = Exceeded(
            resource=limit.resource.value,
            who=limit.who.value,
            name=limit.name,
            amount=limit.amount,
            used=plain(limit.resource, in_use),
            asked=plain(limit.resource, asked),
        )
        found.append((left / asked, numbers))
    return tuple(numbers for _, numbers in sorted(found, key=lambda pair: pair[0]))


# ---------------------------------------------------------------- what would help


@dataclass(frozen=True)
class Held:
    """What one of her servers holds, and in which scopes: they were frozen when it was admitted."""

    server_name: str
    scopes: frozenset[str]
    amounts: Amounts


@dataclass(frozen=True)
class Relief:
    """Servers of hers whose stop would let a start pass; none where no stop of hers is enough."""

    servers: tuple[str, ...]
    together: bool = False
    """True where all of them must be stopped; else each one alone is enough."""
    waiting_helps: bool = True
    """False where a limit is too small for the start by itself, whoever stops what."""


def relief(
    applies: Sequence[Limit], used: Mapping[str, Amounts], charge: Charge, account_id: str, held: Sequence[Held]
) -> Relief:
    """Which of her servers stand in the way of ``charge``."""

    def without(stopped: Sequence[Held]) -> tuple[Exceeded, ...]:
        left = dict(used)
        for one in stopped:
            left.update({s: left[s].plus(one.amounts, -1) for s in one.scopes if s in left})
        return exceeded(applies, left, charge, account_id)

    alone = [one for one in held if not without([one])]
    if alone:
        return Relief(tuple(one.server_name for one in alone))
    needed = list(held)
    if still := without(needed):
        return Relief((), waiting_helps=all(numbers.asked <= numbers.amount for numbers in still))
    for one in held:
        fewer = [other for other in needed if other is not one]
        if not without(fewer):
            needed = fewer
    return Relief(tuple(one.server_name for one in needed), together=True)


# ---------------------------------------------------------------- what a refusal says

_NOUNS = {"servers": "servers", "cores": "cores", "memory_bytes": "memory", "gpus": "GPUs"}


def whose(who: str, name: str) -> str:
    """Whose limit it is, as it stands in a sentence. An account's id is never shown."""
    match who:
        case Who.GROUP_EACH:
            return f"the limit for each member of group {name}"
        case Who.USER:
            return "your own limit"
        case Who.GROUP_TOTAL:
            return f"the limit for all members of group {name} together"
        case Who.PROJECT_TOTAL:
            return f"the limit for project {name} as a whole"
        case _:
            return "the limit for each person"


def refusal(numbers: Exceeded) -> str:
    """The sentence for the person: what the start needs, the limit, whose it is, and what is in use."""
    asked = _amount(numbers.resource, numbers.asked)
    need = f"This start would be {asked} more" if numbers.resource == Resource.SERVERS else f"This start needs {asked}"
    limit = whose(numbers.who, numbers.name)
    if numbers.amount <= 0:
        return f"{need}, but {limit} allows no {_NOUNS[numbers.resource]}."
    used = _amount(numbers.resource, numbers.used)
    verb = "is" if numbers.used == 1 or numbers.resource == Resource.MEMORY_BYTES else "are"
    return f"{need}, but {limit} is {_amount(numbers.resource, numbers.amount)} at once and {used} {verb} in use."


def refusal_others(others: Sequence[Exceeded]) -> str:
    """One more sentence for the further limits that the same start would pass; empty where there is none."""
    if not others:
        return ""
    told = []
    for numbers in others:
        limit = whose(numbers.who, numbers.name)
        if numbers.amount <= 0:
            told.append(f"{limit}, which allows no {_NOUNS[numbers.resource]}")
            continue
        amount, used, asked = (_amount(numbers.resource, n) for n in (numbers.amount, numbers.used, numbers.asked))
        told.append(f"{limit} of {amount} ({used} in use, {asked} asked)")
    return f"It would also pass {' and '.join(told)}."


def relief_said(found: Relief) -> str:
    """What she can do when nothing fits, as a sentence."""
    if not found.servers and found.waiting_helps:
        return "No server of yours that could be stopped is enough: wait until others end, or ask an administrator."
    if not found.servers:
        return "Only an administrator can change that."
    names = [f"server {name}" if name else "default server" for name in found.servers]
    if len(names) == 1:
        return f"Stopping your {names[0]} would help."
    if found.together:
        return f"Stopping your {' and your '.join(names)} together would help."
    return f"Stopping your {' or your '.join(names)} would help."


def refusal_uncounted(missing: Uncounted) -> str:
    """The sentence where a limit cannot be judged: the administrator must complete the profile."""
    return (
        f"This profile sets no limit on {_NOUNS[missing.resource.value]} for its servers, but "
        f"{whose(missing.limit.who, missing.limit.name)} counts them. An administrator must complete the profile."
    )


def _amount(resource: str, amount: float) -> str:
    if resource == Resource.GPUS:
        return f"{amount:g} GPU" if amount == 1 else f"{amount:g} GPUs"
    return format_amount(resource, amount)
