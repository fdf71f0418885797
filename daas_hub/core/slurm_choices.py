"""What one person may ask of a SLURM cluster: partition, slurm_account, QOS, reservation, walltime. Pure.

The cluster's own word is what ``sacctmgr`` and ``scontrol`` say. What is not known, or was last seen before they
stopped answering, refuses nothing: SLURM decides at submission.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from .errors import InvalidOptions
from .slurm_cluster import EVERYBODY, Association, Partition, Reservation
from .slurm_override import checked, minutes_of
from .slurm_times import UNBOUND, Bound, Qos, bound

T = TypeVar("T")

PARTITION, ACCOUNT, QOS, RESERVATION, RUNTIME = "partition", "slurm_account", "qos", "reservation", "runtime"
FIELDS: Mapping[str, str] = {
    PARTITION: "partition",
    ACCOUNT: "account",
    QOS: "qos",
    RESERVATION: "reservation",
    RUNTIME: "runtime",
}
"""What a profile may let people choose (``slurm_choices``) → the key of ``slurm_override`` that it becomes."""
CALLED: Mapping[str, str] = {
    PARTITION: "a partition",
    ACCOUNT: "a SLURM account",
    QOS: "a QOS",
    RESERVATION: "a reservation",
}
OPEN_STATES = frozenset({"UP", "DOWN"})
"""Of a partition that takes jobs; a DOWN one starts them later."""
MAX_LISTED = 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Told(Generic[T]):
    """What the cluster said."""

    value: T
    as_of: datetime
    current: bool = True
    """False where it was asked again since, and did not answer."""


@dataclass(frozen=True)
class May:
    """What one user may use, as the cluster tells it; None: it never told."""

    user: str
    """The account's name."""
    partitions: Told[tuple[Partition, ...]] | None = None
    associations: Told[tuple[Association, ...]] | None = None
    reservations: Told[tuple[Reservation, ...]] | None = None
    enforced: frozenset[str] = frozenset({"associations", "qos"})
    """AccountingStorageEnforce: without ``associations`` everybody may submit, without ``qos`` with any QOS; without
    ``limits`` those of QOS and associations bound nothing."""
    above: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """SLURM account → those above it, where a partition's list means them, too (23.02 and later)."""
    qos: Told[Mapping[str, Qos]] | None = None
    """All QOS of the cluster, by name."""
    site: Mapping[str, str] = field(default_factory=dict)
    """Field → what the site's own settings say for all profiles (``c.SlurmSpawner``)."""


Groups = Collection[str] | None
"""Names of the account's groups; None: not known, and then nothing is refused because of them."""


@dataclass(frozen=True)
class Way:
    """One way to submit; an empty account or QOS stands for any."""

    partition: Partition
    account: str = ""
    qos: str = ""
    by_default: bool = True
    """Whether it is taken by who names no account."""
    qos_by_default: bool = True
    bound: Bound = UNBOUND
    """On its walltime."""


def read(name: str, text: str) -> str:
    """One value as it may be handed on; raises ValueError with what is allowed."""
    if name == RUNTIME:
        return checked("runtime", text)
    if not _NAME.fullmatch(text):
        raise ValueError("a name has letters, digits, _ . -, begins with a letter, a digit or _, at most 64.")
    return text


# ---------------------------------------------------------------- which ways there are


def ways(
    may: May, groups: Groups, *, reserved: bool = False, only: Collection[str] = (), named: Collection[str] = ()
) -> list[Way]:
    """All ways in which she may submit. ``reserved``: in a reservation; ``only``: the partitions of the profile, where
    it has some; ``named``: hidden ones that it names."""
    told = may.partitions.value if may.partitions is not None else ()
    found: list[Way] = []
    for partition in told:
        hidden = partition.hidden and partition.name not in {*only, *named}
        closed = partition.state not in OPEN_STATES or (partition.needs_reservation and not reserved)
        if hidden or closed or (only and partition.name not in only) or not _in_groups(partition.groups, groups):
            continue
        found += _in_partition(may, partition)
    return found


def _in_groups(listed: Collection[str], groups: Groups) -> bool:
    return groups is None or listed == EVERYBODY or not set(listed).isdisjoint(groups)


def _in_partition(may: May, partition: Partition) -> list[Way]:
    known = may.qos.value if may.qos is not None else None
    limits = "limits" in may.enforced
    if may.associations is None or "associations" not in may.enforced:
        return [Way(partition, bound=bound(partition, known, limits=limits))]
    found = []
    mine = may.associations.value
    own = {each.account for each in mine if each.partition == partition.name}
    for each in mine:
        # One for this partition stands before the one for all.
        if each.partition not in ("", partition.name) or (not each.partition and each.account in own):
            continue
        names = {each.account} | may.above.get(each.account, frozenset())
        listed, denied = partition.accounts, partition.denied_accounts
        if names.isdisjoint(listed) if listed != EVERYBODY else not names.isdisjoint(denied):
            continue
        default = each.default_qos or _default_qos(each.qos)
        found += [
            Way(
                partition,
                each.account,
                qos,
                each.default,
                not default or qos == default,
                bound(partition, known, qos, each.account, each.max_time_s, limits=limits),
            )
            for qos in (each.qos if "qos" in may.enforced else ()) or ("",)
            if not qos or partition.admits_qos(qos)
        ]
    return found


def _default_qos(names: Sequence[str]) -> str:
    """The QOS of a job that names none, where the association names none either: the only one, else SLURM's own."""
    return names[0] if len(names) == 1 else "normal" if "normal" in names else ""


def value_of(way: Way, name: str) -> str:
    """What it has in this field."""
    return way.partition.name if name == PARTITION else way.account if name == ACCOUNT else way.qos


def _with(pool: Sequence[Way], name: str, values: Collection[str]) -> list[Way]:
    return [way for way in pool if value_of(way, name) in ("", *values)]


def settled(pool: list[Way], name: str, fixed: str) -> list[Way]:
    """The ways that are left for who does not choose this: those of the profile's value, else of her default."""
    if fixed:
        return _with(pool, name, fixed.split(","))
    if name == PARTITION:
        return pool
    return [way for way in pool if (way.by_default if name == ACCOUNT else way.qos_by_default)]


# ---------------------------------------------------------------- is what she asks for hers?


def check(
    may: May, groups: Groups, asked: Mapping[str, str], fixed: Mapping[str, str], only: Collection[str] = ()
) -> frozenset[str] | None:
    """The partitions in which a job can be submitted as she asks; None: nobody can tell.

    ``asked``: field → her own choice; ``fixed``: the same of the profile. Raises InvalidOptions that names field,
    value and what is allowed.
    """
    if may.partitions is None:
        return None
    fixed = with_site(may, fixed, asked)
    current = may.partitions.current and (may.associations is None or may.associations.current)
    reserved = RESERVATION in asked or bool(fixed.get(RESERVATION))
    whole = pool = ways(may, groups, reserved=reserved, only=only, named=fixed.get(PARTITION, "").split(","))
    if current:
        for name in (PARTITION, ACCOUNT, QOS):
            if name in asked and not _with(pool, name, [asked[name]]):
                raise _not_hers(name, asked[name], names_of(pool, name))
    for name in (ACCOUNT, PARTITION, QOS):
        if name not in asked:
            # Where the profile's own setting fits nothing of hers, SLURM says so, and the profile is to be mended.
            pool = settled(pool, name, fixed.get(name, "")) or pool
    for name in (ACCOUNT, PARTITION, QOS):
        if name not in asked:
            continue
        left = _with(pool, name, [asked[name]])
        if not left and current:
            raise _not_together(name, asked, fixed, whole, names_of(pool, name))
        if not left:
            return None
        pool = left
    if RESERVATION in asked:
        pool = _in_reservation(may, groups, asked[RESERVATION], pool)
    pool = _long_enough(asked, fixed, pool, current=current and (may.qos is None or may.qos.current))
    return frozenset(way.partition.name for way in pool) or None


def refuse_project(may: May, groups: Groups, project: str, account: str) -> None:
    """Raise InvalidOptions where she may not use the SLURM account to which a project is charged."""
    if may.partitions is None or may.associations is None or not may.associations.current:
        return
    pool = ways(may, groups, reserved=True, named=[each.name for each in may.partitions.value])
    if not _with(pool, ACCOUNT, [account]):
        raise InvalidOptions(
            f'project: "{project}" is charged to the SLURM account "{account}", which {may.user} may not use. Yours '
            f"are: {_listed(names_of(pool, ACCOUNT))}. Ask the cluster's administrators for an association, or start "
            "without the project.",
            field="project",
        )


def with_site(may: May, fixed: Mapping[str, str], asked: Collection[str] = ()) -> dict[str, str]:
    """The profile's values, and the site's where it has none and nothing is asked."""
    return {**{name: text for name, text in may.site.items() if name not in asked}, **fixed}


def names_of(pool: Sequence[Way], name: str) -> list[str]:
    """All values of a field, each once."""
    return list(dict.fromkeys(value for way in pool if (value := value_of(way, name))))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return (", ".join(names[:MAX_LISTED]) or "none") + more


def _not_hers(name: str, given: str, names: Sequence[str]) -> InvalidOptions:
    return InvalidOptions(
        f'{name}: "{given}" is not {CALLED[name]} that you may use. Allowed: {_listed(names)}. '
        "Ask the cluster's administrators if you need it.",
        field=name,
    )


def _not_together(
    name: str, asked: Mapping[str, str], fixed: Mapping[str, str], whole: list[Way], names: Sequence[str]
) -> InvalidOptions:
    """What she asked for goes with something, but not with the rest of what she gets."""
    others = {}
    for other in (ACCOUNT, PARTITION, QOS):
        if other == name:
            continue
        left = _with(whole, other, [asked[other]]) if other in asked else settled(whole, other, fixed.get(other, ""))
        said = _said(other, asked, fixed, left)
        if said:
            others[said] = not _with(left, name, [asked[name]])
    # Where one alone stands against it, that is the one to change.
    beside = [said for said, against in others.items() if against] or list(others)
    together = f" together with {' and '.join(beside)}" if beside else ""
    return InvalidOptions(
        f'{name}: "{asked[name]}" cannot be used{together}. Allowed with it: {_listed(names)}.', field=name
    )


def _said(name: str, asked: Mapping[str, str], fixed: Mapping[str, str], left: Sequence[Way]) -> str:
    """What holds in a field, in words; empty: nothing in particular."""
    if name in asked:
        return f"{name} {asked[name]}"
    if fixed.get(name):
        return f"the profile's {name} {fixed[name]}"
    names = names_of(left, name)
    return f"your default {name} {names[0]}" if name != PARTITION and len(names) == 1 else ""


def _may_reserve(one: Reservation, may: May, groups: Groups, way: Way) -> bool:
    told = may.partitions.value if may.partitions is not None else ()
    theirs = {node.name for each in told if each.name == one.partition for node in each.nodes}
    if theirs and theirs.isdisjoint(node.name for node in way.partition.nodes):
        # A job in another partition may be in it, where that has one of its nodes.
        return False
    # What is not known admits: an empty account stands for any.
    account = way.account or next((name for name in one.accounts if not name.startswith("-")), "")
    return one.admits(may.user, account, sorted(one.groups) if groups is None else sorted(groups))


def reservations_for(may: May, groups: Groups, pool: Sequence[Way]) -> list[Reservation]:
    """The reservations in which a job of one of these ways may be."""
    told = may.reservations.value if may.reservations is not None else ()
    return [one for one in told if any(_may_reserve(one, may, groups, way) for way in pool)]


def _in_reservation(may: May, groups: Groups, given: str, pool: list[Way]) -> list[Way]:
    hers = reservations_for(may, groups, pool)
    one = next((each for each in hers if each.name == given), None)
    if one is not None:
        return [way for way in pool if _may_reserve(one, may, groups, way)]
    if may.reservations is not None and may.reservations.current:
        raise _not_hers(RESERVATION, given, [each.name for each in hers])
    return pool


def _long_enough(asked: Mapping[str, str], fixed: Mapping[str, str], pool: list[Way], *, current: bool) -> list[Way]:
    """The ways that allow the walltime. One of the profile, too long whatever she chooses, is the profile's mistake."""
    wanted = asked.get(RUNTIME, fixed.get(RUNTIME, ""))
    wanted_s = (minutes_of(wanted) or 0) * 60
    left = [way for way in pool if way.bound.allows(wanted_s)]
    if left or not pool or not current:
        return left or pool
    longest = max((way.bound for way in pool), key=lambda one: one.longest_s or 0)
    too_long = f"is more than the {walltime(longest.longest_s)} of {longest.whose}"
    if RUNTIME in asked:
        text = f'{RUNTIME}: "{wanted}" {too_long}; choose at most that, or ask the cluster\'s administrators.'
        raise InvalidOptions(text, field=RUNTIME)
    chosen = [name for name in (longest.field, QOS, PARTITION, ACCOUNT) if name in asked]
    if not chosen:
        return pool
    raise InvalidOptions(
        f'{chosen[0]}: "{asked[chosen[0]]}" cannot be used together with the profile\'s runtime: {wanted} {too_long}. '
        "Choose another, or less time where the profile lets you, or ask the cluster's administrators.",
        field=chosen[0],
    )


def walltime(seconds: int | None) -> str:
    """A walltime as SLURM writes it: ``1-00:00:00``."""
    if seconds is None:
        return "unlimited"
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02}:{minute:02}:{second:02}"
