"""What a form offers of a SLURM cluster: the fields that a profile leaves to people, with what this one may use. Pure.

Whatever is offered, ``core/slurm_choices.py`` takes; what is not known is left to SLURM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .slurm_choices import (
    ACCOUNT,
    PARTITION,
    QOS,
    RESERVATION,
    RUNTIME,
    Groups,
    May,
    Told,
    Way,
    names_of,
    reservations_for,
    settled,
    value_of,
    walltime,
    ways,
    with_site,
)
from .slurm_cluster import Reservation
from .units import format_duration

LABELS: Mapping[str, str] = {
    PARTITION: "Partition",
    ACCOUNT: "SLURM account",
    QOS: "QOS",
    RESERVATION: "Reservation",
    RUNTIME: "Walltime",
}


@dataclass(frozen=True)
class Offer:
    """One field of a card."""

    field: str
    label: str
    choices: tuple[tuple[str, str], ...] = ()
    """(what is sent, what is shown); none: a text."""
    help: str = ""


def offers(
    may: May | None,
    groups: Groups,
    fields: Sequence[str],
    fixed: Mapping[str, str],
    only: Collection[str],
    now: datetime,
) -> tuple[Offer, ...]:
    """The fields of a profile; ``fixed`` are its own values by field, ``only`` its partitions, where it has some."""
    may = may or May("")
    fixed = with_site(may, fixed)
    reserved = RESERVATION in fields or bool(fixed.get(RESERVATION))
    pool = ways(may, groups, reserved=reserved, only=only, named=fixed.get(PARTITION, "").split(","))
    for name in (ACCOUNT, PARTITION, QOS):
        if name not in fields:
            pool = settled(pool, name, fixed.get(name, "")) or pool
    found = []
    for name in fields:
        offer = _offer(name, may, groups, pool, fixed.get(name, ""), fields, now)
        if offer is not None:
            found.append(offer)
    return tuple(found)


def _offer(
    name: str, may: May, groups: Groups, pool: list[Way], fixed: str, fields: Sequence[str], now: datetime
) -> Offer | None:
    match name:
        case "runtime":
            return Offer(name, LABELS[name], help=_about_time(pool, fixed))
        case "reservation":
            hers = reservations_for(may, groups, pool)
            listed = [(one.name, f"{one.name}: {_when(one, now)}") for one in hers]
            told = may.reservations
            if not listed and told is not None and told.current:
                return None
            nothing = ("", f"{fixed}, as the profile says" if fixed else "None")
            return Offer(name, LABELS[name], (nothing, *listed), _age("Reservations", told, now))
        case _:
            told_of = may.partitions if name == PARTITION else may.associations
            what = "Partitions" if name == PARTITION else "What you may use"
            listed = [(value, _words(name, value, pool, fields)) for value in sorted(names_of(pool, name)) if value]
            said = _age(what, told_of, now)
            if not pool and not said:
                said = "The cluster's accounting lets you use nothing here. Ask the cluster's administrators."
            return Offer(name, LABELS[name], (("", _default(name, pool, fixed)), *listed), said)


def _default(name: str, pool: list[Way], fixed: str) -> str:
    """What is taken where she chooses nothing."""
    if fixed:
        return f"{fixed}, as the profile says"
    if name == PARTITION:
        return "Any: where it starts first"
    names = names_of(settled(pool, name, ""), name)
    return f"Default: {names[0]}" if len(names) == 1 and names[0] else "Default"


def _words(name: str, value: str, pool: list[Way], fields: Sequence[str]) -> str:
    """A value with what it goes together with."""
    here = [way for way in pool if value_of(way, name) == value]
    notes = []
    if name == PARTITION or (name == QOS and any(way.bound.field == QOS for way in here)):
        notes.append(_longest(here))
    if name == PARTITION and here[0].partition.needs_reservation:
        notes.append("in a reservation only")
    for other, word in ((ACCOUNT, "SLURM account"), (PARTITION, "partition")):
        if other == name or other not in fields:
            continue
        theirs = names_of(here, other)
        if len(theirs) < len(names_of(pool, other)):
            notes.append(f"with {word} {' or '.join(theirs)}")
    return f"{value}: {', '.join(notes)}" if notes else value


def _longest(pool: Sequence[Way]) -> str:
    """The longest walltime that any of these ways has."""
    bounds = [way.bound.longest_s for way in pool]
    return (
        "no limit on time" if None in bounds else f"at most {walltime(max(one for one in bounds if one is not None))}"
    )


def _about_time(pool: list[Way], fixed: str) -> str:
    """Bounds and default of a walltime: partition by partition, and those of a QOS that is the same in all of them."""
    alike = {way.qos: way.bound.longest_s for way in pool if way.bound.field == QOS}
    alike = {
        qos: longest_s
        for qos, longest_s in alike.items()
        if all(way.bound.longest_s == longest_s for way in pool if way.qos == qos)
    }
    rest = [way for way in pool if way.qos not in alike]
    if not rest:
        rest, alike = pool, {}
    seen: dict[str, list[str]] = {}
    for way in rest:
        said = "no limit" if way.bound.longest_s is None else f"at most {walltime(way.bound.longest_s)}"
        if way.partition.default_time_s is not None and not fixed:
            said += f" ({walltime(way.partition.default_time_s)} by default)"
        names = seen.setdefault(said, [])
        if (label := way.partition.name + _what_differs(way, rest)) not in names:
            names.append(label)
    by_name = "; ".join(f"{', '.join(names)} {said}" for said, names in seen.items())
    bounds = next((said[:1].upper() + said[1:] for said in seen), "") if len(seen) < 2 else f"By partition: {by_name}"
    by_qos = [f"With QOS {qos} at most {walltime(longest_s)}" for qos, longest_s in alike.items()]
    parts = [bounds, *by_qos, f"By default {fixed}" if fixed else "", "Minutes, h:m:s or d-h:m:s"]
    return ". ".join(part for part in parts if part) + "."


def _what_differs(way: Way, pool: Sequence[Way]) -> str:
    """What of a way has this bound in its partition, where that has several."""
    here = [each for each in pool if each.partition.name == way.partition.name]
    if {each.bound.longest_s for each in here} == {way.bound.longest_s}:
        return ""
    for name, word in ((QOS, "QOS"), (ACCOUNT, "SLURM account")):
        value = value_of(way, name)
        if {each.bound.longest_s for each in here if value_of(each, name) == value} == {way.bound.longest_s}:
            return f" with {word} {value}"
    return f" with QOS {way.qos} and SLURM account {way.account}"


def _when(one: Reservation, now: datetime) -> str:
    def at(moment: datetime | None) -> str:
        return "?" if moment is None else f"{moment.astimezone(UTC):%d %b %H:%M} UTC"

    begun = one.active or (one.starts_at is not None and one.starts_at <= now)
    return f"now, until {at(one.ends_at)}" if begun else f"from {at(one.starts_at)} until {at(one.ends_at)}"


def _age(what: str, told: Told[Any] | None, now: datetime) -> str:
    """A sentence where the list is not the cluster's word of just now."""
    if told is None:
        return f"{what}: not known just now. The cluster decides when the job is submitted."
    if told.current:
        return ""
    age = format_duration((now - told.as_of).total_seconds())
    return f"{what}: as of {age} ago, because the cluster does not tell just now. It decides when the job is submitted."
