"""Where a launch may run: candidates in order, with reasons and estimates in words. Pure (design.md §2, step 4).

A place is a backend, or one partition of it: ``kubernetes``, ``slurm:gpu``. What there is room for is judged in
``room.py``; what each backend has free comes from its ``capacity()``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .capacity import Capacity
from .errors import InvalidOptions, NotAllowed
from .models import Json, LaunchRequest
from .places import AUTO, Place, Policy, Wish, place
from .profiles import PLACEMENT as FIELD
from .room import Fit, judge, need_of

VERSION = 1
"""Of what is stored."""
ONLY = "this hub has no other place"
"""The reason where nobody was asked."""

Looks = Mapping[str, Sequence[Capacity]]
"""The site's word of a backend → what it says is free: one for itself, or one for each partition."""


@dataclass(frozen=True)
class Candidate:
    """One place with what is known of it."""

    place: Place
    fit: Fit
    reason: str
    starts_at: datetime | None = None
    as_of: datetime | None = None
    """When it was seen; None: never."""

    def said(self, now: datetime) -> str:
        """``on SLURM partition gpu at about 14:20 UTC``."""
        where = f"on {self.place.words}"
        match self.fit:
            case Fit.NOW:
                return f"now {where}"
            case Fit.LATER if self.starts_at is not None:
                return f"{where} at {about(self.starts_at, now)}"
            case Fit.LATER:
                return f"{where} when there is room"
            case Fit.CROWDED:
                return f"now {where}, which is full"
            case Fit.UNKNOWN:
                return f"{where} perhaps: {self.reason}"
            case _:
                return f"never {where}: {self.reason}"

    def short(self, now: datetime) -> str:
        """A few words beside its name: ``about 14:20 UTC``."""
        match self.fit:
            case Fit.NOW:
                return "has room now"
            case Fit.LATER if self.starts_at is not None:
                return about(self.starts_at, now)
            case Fit.LATER:
                return "full just now"
            case Fit.CROWDED:
                return "full, starts all the same"
            case Fit.UNKNOWN:
                return "not known whether it has room"
            case _:
                return "too small"


def about(at: datetime, now: datetime) -> str:
    """A moment that was estimated: ``about 14:20 UTC``, with its day where that is another one."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    day = "" if at.date() == now.date() else f" on {at.day} {at:%b}"
    return f"about {at:%H:%M} UTC{day}"


@dataclass(frozen=True)
class Placement:
    """The decision: the places to try, in this order."""

    candidates: tuple[Candidate, ...]
    """At least one."""
    others: tuple[Candidate, ...]
    """Where it will never fit."""
    policy: Policy
    asked: str
    """What the user named; ``auto`` where she named nothing."""
    decided_at: datetime

    @property
    def first(self) -> Candidate:
        """Where it is tried first."""
        return self.candidates[0]

    @property
    def had_choice(self) -> bool:
        """Whether there was anything to decide or to wait for, that she should know of."""
        return len(self.candidates) + len(self.others) > 1 or self.asked != AUTO or self.first.fit is Fit.LATER

    @property
    def backends(self) -> tuple[str, ...]:
        """Each backend that may be tried."""
        return tuple(dict.fromkeys(each.place.backend for each in self.candidates))

    def why(self, chosen: Candidate) -> str:
        """Why it goes there, as a sentence for her."""
        return f"{self._order(chosen)}{_full(self.candidates, chosen)}"

    def _order(self, chosen: Candidate) -> str:
        if chosen.reason == ONLY:
            return f"{_capital(f'on {chosen.place.words}')}: {ONLY}."
        words = _capital(chosen.said(self.decided_at))
        reason = "" if chosen.fit is Fit.UNKNOWN else f" ({chosen.reason})"
        if chosen is not self.first:
            return f"{words}{reason}, because it could not be started {_on(self.candidates, chosen)}."
        if self.asked != AUTO:
            return f"{words}{reason}, as you chose."
        more = [each.said(self.decided_at) for each in self.candidates[1:3]]
        if not more:
            only = "it fits at no other place" if self.others else "this profile has no other place"
            return f"{words}{reason}: {only}."
        return f"{words}{reason}; else {', or '.join(more)}. {_WISHES[self.policy.wish]}"

    def to_json(self, chosen: Candidate | None = None) -> Json:
        """What is stored in the launch."""
        chosen = chosen or self.first
        listed = (*self.candidates, *self.others)
        return {
            "version": VERSION,
            "asked": self.asked,
            "policy": self.policy.wish.value,
            "chosen": str(chosen.place),
            "reason": self.why(chosen),
            "decided_at": self.decided_at.isoformat(),
            "candidates": [
                {
                    "place": str(each.place),
                    "words": each.place.words,
                    "fit": each.fit.value,
                    "reason": each.reason,
                    "starts_at": each.starts_at.isoformat() if each.starts_at is not None else None,
                    "as_of": each.as_of.isoformat() if each.as_of is not None else None,
                }
                for each in listed
            ],
        }


_WISHES = {
    Wish.NOW: "This hub takes the place where a server starts first.",
    Wish.CHEAP: "This hub takes the place that costs least.",
    Wish.PREFERRED: "This hub has an order of places.",
}


def _full(candidates: Sequence[Candidate], chosen: Candidate) -> str:
    if any(each.fit not in (Fit.LATER, Fit.CROWDED) for each in candidates):
        return ""
    what = "it starts all the same" if chosen.fit is Fit.CROWDED else "it waits in the queue there"
    return f" Nothing has room just now: {what}."


def _on(candidates: Sequence[Candidate], chosen: Candidate) -> str:
    return " or ".join(f"on {each.place.words}" for each in candidates[: candidates.index(chosen)])


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


# ---------------------------------------------------------------- the decision


def candidates(wanted: Sequence[str], configured: Sequence[str]) -> tuple[str, ...]:
    """The places to try, in the profile's order; ``auto`` and nothing mean every configured backend.

    Raises NotAllowed where the profile's backends are all unknown here.
    """
    if not wanted or AUTO in wanted:
        return tuple(configured)
    usable = tuple(name for name in wanted if place(name).backend in configured)
    if not usable:
        raise NotAllowed(
            f"This profile runs on {', '.join(wanted)}, but this hub has only {', '.join(configured)}. "
            "Ask the administrator.",
            reason="placement",
        )
    return usable


def decide(
    request: LaunchRequest, configured: Sequence[str], looks: Looks, *, policy: Policy, now: datetime
) -> Placement:
    """Where a server goes, by what is free, the site's policy and what the user chose.

    ``looks`` are empty where the hub has one place only: nobody needs to be asked. Raises NotAllowed (no such backend
    here), InvalidOptions for a place that the profile does not have, and where it will never fit at any of them.
    """
    asked = request.placement or AUTO
    wanted = [place(name) for name in candidates(request.backends, configured)]
    fixed = _fixed_partition(request.override)
    places = list(dict.fromkeys(one for each in wanted for one in _expanded(each, looks, fixed)))
    if asked != AUTO:
        places = _chosen(place(asked), wanted, places, looks)
    if looks:
        found = [_judged(one, looks, request, policy, now) for one in places]
    else:
        found = [Candidate(one, Fit.UNKNOWN, ONLY) for one in places]
    possible = [each for each in found if each.fit is not Fit.NEVER]
    never = tuple(each for each in found if each.fit is Fit.NEVER)
    if not possible:
        raise _fits_nowhere(request, never)
    ranked = sorted(enumerate(possible), key=lambda pair: _rank(pair[1], pair[0], policy, now))
    return Placement(tuple(each for _, each in ranked), never, policy, asked, now)


def _fixed_partition(override: Mapping[str, Any]) -> str:
    """The partition that a profile's settings for SLURM name; empty: none."""
    slurm = override.get("slurm")
    named = slurm.get("partition") if isinstance(slurm, Mapping) else None
    return named if isinstance(named, str) else ""


def _expanded(one: Place, looks: Looks, fixed: str) -> list[Place]:
    """A backend as its partitions, where it tells any."""
    partitions = [seen.partition for seen in looks.get(one.backend, ()) if seen.partition]
    if one.partition or not partitions:
        return [one]
    if fixed:
        return [Place(one.backend, fixed)]
    return [Place(one.backend, partition) for partition in partitions]


def _chosen(asked: Place, wanted: Sequence[Place], places: Sequence[Place], looks: Looks) -> list[Place]:
    """The places that she named. Raises InvalidOptions with those that the profile has."""
    if found := [one for one in places if one.within(asked)]:
        return found
    told = any(seen.as_of is not None for seen in looks.get(asked.backend, ()))
    if asked.partition and not told and Place(asked.backend) in wanted:
        # Which partitions there are is not known just now; whoever starts it will know.
        return [asked]
    raise not_a_place(str(asked), allowed(places))


def allowed(places: Sequence[Place]) -> list[str]:
    """What a user may name for these places."""
    return list(dict.fromkeys([AUTO, *(one.backend for one in places if one.partition), *map(str, places)]))


def not_a_place(given: str, names: Sequence[str]) -> InvalidOptions:
    """Raised for a place that a profile does not have."""
    return InvalidOptions(
        f'{FIELD}: "{given}" is not a place where this profile can run. Allowed: {", ".join(names)}.', field=FIELD
    )


def _judged(one: Place, looks: Looks, request: LaunchRequest, policy: Policy, now: datetime) -> Candidate:
    there = looks.get(one.backend, ())
    named = one.partition.split(",")
    found = [
        Candidate(one, verdict.fit, verdict.reason, verdict.starts_at, seen.as_of)
        for seen in there
        if seen.partition in named
        for need in [need_of(request.resources, request.override, by_limit=seen.by_limit)]
        for verdict in [judge(seen, need, now=now, stale_s=policy.stale_s)]
    ]
    if not found:
        listed = [each.partition for each in there if each.partition]
        why = f"it lists only {', '.join(listed)}" if one.partition and listed else "it has not told what is free"
        return Candidate(one, Fit.UNKNOWN, why)
    # Of several SLURM takes the one that starts first.
    return min(found, key=lambda each: _grade(each, now))


_Rank = tuple[int, float, float, int, int]


def _rank(each: Candidate, number: int, policy: Policy, now: datetime) -> _Rank:
    """Smaller is better: has room, estimated, not known, full without an estimate; then what the site wishes."""
    grade, wait_s = _grade(each, now)
    if policy.wish is not Wish.NOW and grade == 1 and wait_s <= policy.patience_s:
        grade = 0
    order = policy.preference(each.place)
    match policy.wish:
        case Wish.NOW:
            return grade, wait_s, 0.0, order, number
        case Wish.CHEAP:
            return grade, policy.cost(each.place), wait_s, order, number
        case _:
            return grade, float(order), wait_s, 0, number


def _grade(each: Candidate, now: datetime) -> tuple[int, float]:
    """How good a place is just now, and for how many seconds it would be waited for; smaller is better."""
    wait_s = 0.0 if each.starts_at is None else max(0.0, (each.starts_at - now) / timedelta(seconds=1))
    grades = {Fit.NOW: 0, Fit.UNKNOWN: 2, Fit.NEVER: 4}
    return grades.get(each.fit, 1 if each.starts_at is not None else 3), wait_s


def _fits_nowhere(request: LaunchRequest, never: Sequence[Candidate]) -> InvalidOptions:
    where = "; ".join(f"{_capital(each.place.words)}: {each.reason}" for each in never)
    chosen = request.placement not in ("", AUTO)
    return InvalidOptions(
        f"{FIELD if chosen else 'profile'}: {request.profile_display_name} can never run "
        f"{'there' if chosen else 'on this hub'}. {where}.",
        field=FIELD if chosen else "profile",
    )


# ---------------------------------------------------------------- what she may choose


def choices(found: Placement) -> list[tuple[str, str]]:
    """What a form offers: (what is sent, what is shown), the site's own choice first."""
    now = found.decided_at
    listed = [(AUTO, f"Automatic: {found.first.said(now)}")]
    for each in sorted(found.candidates, key=lambda each: each.place):
        # Several partitions together cannot be named, their backend can.
        value = each.place.backend if "," in each.place.partition else str(each.place)
        listed.append((value, f"{_capital(each.place.words)}: {each.short(now)}"))
    return listed


# ---------------------------------------------------------------- what was stored


def stored(request: Json) -> Json | None:
    """The placement in a launch's request; None where it was made before there was any."""
    found = request.get(FIELD)
    return found if isinstance(found, dict) and found.get("version") == VERSION else None


def settings_at(request: LaunchRequest, where: Place) -> Mapping[str, Any]:
    """The settings of a launch that goes to that place: its partition is the one that SLURM is asked for."""
    if not where.partition:
        return request.override
    given = request.override.get("slurm")
    inner = given if isinstance(given, Mapping) else {}
    return {**request.override, "slurm": {**inner, "partition": where.partition}}
