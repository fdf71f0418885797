"""What a profile's card says of the room for it just now, and what changed since a page was last told. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .placement import Placement
from .room import Fit
from .units import format_duration

AGE_SAID = timedelta(seconds=60)
"""What was seen less long ago is what is."""
MAX_SEEN = 2000
"""Characters of what a page tells that it shows."""


class State(StrEnum):
    """Of the room for a profile."""

    FREE = "free"
    SOON = "soon"
    """Full, with an estimate."""
    BUSY = "busy"
    UNKNOWN = "unknown"
    NEVER = "never"


@dataclass(frozen=True)
class Badge:
    """What stands on one card."""

    slug: str
    display_name: str
    state: State
    words: str


def badge(slug: str, display_name: str, placement: Placement | None, now: datetime) -> Badge:
    """The badge of a profile; ``placement`` None: it fits nowhere."""
    state, words = (State.NEVER, "Too large for this hub") if placement is None else _said(placement, now)
    return Badge(slug, display_name, state, words)


def _said(placement: Placement, now: datetime) -> tuple[State, str]:
    first = placement.first
    age = now - first.as_of if first.as_of is not None else None
    old = f" (seen {format_duration(age.total_seconds())} ago)" if age is not None and age >= AGE_SAID else ""
    match first.fit:
        case Fit.NOW:
            return State.FREE, f"Free{old}"
        case Fit.LATER if first.starts_at is not None:
            return State.SOON, f"Busy, free in {about(first.starts_at - now)}{old}"
        case Fit.LATER:
            return State.BUSY, f"Busy{old}"
        case Fit.CROWDED:
            return State.BUSY, f"Busy, starts all the same{old}"
        case _:
            return State.UNKNOWN, f"Not known whether it is free{old}"


def about(wait: timedelta) -> str:
    """A wait that was estimated: ``about 12 minutes``; rounded up, coarser the longer it is."""
    minutes = max(1, -int(-wait.total_seconds() // 60))
    if minutes > 60:
        minutes = -(-minutes // 15) * 15
    if minutes >= 48 * 60:
        return f"about {-(-minutes // 1440)} days"
    if minutes >= 120:
        return f"about {-(-minutes // 60)} hours"
    return f"about {minutes} minute" + ("" if minutes == 1 else "s")


# ---------------------------------------------------------------- what a page has been told


def told(badges: Sequence[Badge]) -> str:
    """What a page sends back with its next question: the state of each card, and a mark of all words."""
    words = hashlib.sha256("\n".join(f"{one.slug}={one.words}" for one in badges).encode()).hexdigest()[:8]
    whole = ",".join([words, *(f"{one.slug}:{one.state}" for one in badges)])
    # It is part of an address. Of very many profiles no change is said aloud.
    return whole if len(whole) <= MAX_SEEN else words


def states(seen: str) -> dict[str, str]:
    """Slug → state of what a page says it shows; whatever it sends."""
    if len(seen) > MAX_SEEN:
        return {}
    return dict(part.split(":", 1) for part in seen.split(",")[1:] if ":" in part)


def news(badges: Sequence[Badge], before: Mapping[str, str]) -> str:
    """What a screen reader says aloud: only cards that became free or full, not every minute of an estimate."""
    return " ".join(
        f"{one.display_name}: {one.words}."
        for one in badges
        if one.slug in before and _kind(before[one.slug]) != _kind(one.state)
    )


def _kind(state: str) -> str:
    return State.BUSY if state == State.SOON else state
