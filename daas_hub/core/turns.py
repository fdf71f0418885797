"""Whose turn it is at a place that the hub itself keeps from being overfilled. Pure.

In which order launches wait is decided in ``share.py``; here it is decided how many of them may go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .capacity import Capacity, Room
from .models import Charge, Json
from .units import format_bytes, format_cores

SINCE_FIELD = "queued_since"
"""In a launch's request: since when its owner waits, where an earlier launch of hers waited before it."""
MAIL_FIELD = "mail_when_ready"
"""In a launch's request: True where its owner wants a mail when it is ready. REST's option is called the same."""
RESTARTED = "the hub was restarted while this start waited for its turn"
"""Why a launch of an earlier boot that was QUEUED has ended; its owner's next start takes its place in the line."""


def waits_since(request: Json, created_at: datetime) -> datetime:
    """Since when its owner waits for this server."""
    given = request.get(SINCE_FIELD)
    return datetime.fromisoformat(given) if isinstance(given, str) else created_at


def outlives(request: Json, created_at: datetime) -> Json:
    """What of a launch that only waited goes on in the next one of the same server: its place, and its owner's wish."""
    wish = {MAIL_FIELD: True} if request.get(MAIL_FIELD) is True else {}
    return {SINCE_FIELD: waits_since(request, created_at).isoformat(), **wish}


@dataclass(frozen=True)
class Asks:
    """What one launch takes at a place: what every scheduler would reserve for it."""

    cores: float = 0.0
    memory_bytes: int = 0

    @classmethod
    def of(cls, request: Json, charge: Charge) -> Asks:
        """The guarantee, and the limit where none is set, as a launch's row has them; what it counts for else.

        What is bounded by nothing takes nothing: nobody knows how much it will be.
        """
        kept: Mapping[str, Any] = request.get("resources") or {}
        cores = _first(kept.get("cpu_guarantee"), kept.get("cpu_limit"), charge.cores)
        memory = _first(kept.get("mem_guarantee_bytes"), kept.get("mem_limit_bytes"), charge.memory_bytes)
        return cls(float(cores), int(memory))


def _first(*amounts: float | None) -> float:
    return next((amount for amount in amounts if amount is not None), 0)


@dataclass(frozen=True)
class Bounds:
    """What the hub may have at a place."""

    starting: int = 0
    """Launches that are submitted and do not answer yet; 0: any number."""
    room: Room = field(default_factory=Room)
    """Cores and memory for all launches there together; None: any amount."""

    @property
    def any(self) -> bool:
        """Whether anybody may ever have to wait."""
        return self.starting > 0 or self.has_room

    @property
    def has_room(self) -> bool:
        """Whether cores or memory are bounded."""
        return self.room.cores is not None or self.room.memory_bytes is not None


@dataclass(frozen=True)
class Holding:
    """What the launches at a place hold together."""

    starting: int = 0
    cores: float = 0.0
    memory_bytes: int = 0

    def plus(self, asks: Asks) -> Holding:
        """With one more that is being started."""
        return Holding(self.starting + 1, self.cores + asks.cores, self.memory_bytes + asks.memory_bytes)


def lacks(bounds: Bounds, held: Holding, asks: Asks) -> str:
    """Why one more cannot begin now, in words; empty: it can."""
    room = bounds.room
    if bounds.starting and held.starting >= bounds.starting:
        one = held.starting == 1
        return f"{held.starting} server{'' if one else 's'} {'is' if one else 'are'} being started there already"
    if room.cores is not None and held.cores + asks.cores > room.cores:
        free = format_cores(max(0.0, room.cores - held.cores))
        return f"it is full: {format_cores(asks.cores)} needed, {free} of {room.cores:g} free"
    if room.memory_bytes is not None and held.memory_bytes + asks.memory_bytes > room.memory_bytes:
        free = format_bytes(max(0, room.memory_bytes - held.memory_bytes))
        return f"it is full: {format_bytes(asks.memory_bytes)} of memory needed, {free} free"
    return ""


def take(line: Sequence[tuple[str, Asks]], held: Holding, bounds: Bounds) -> tuple[tuple[str, ...], str]:
    """Who of a line goes now, first to last, and why the next one has to wait.

    Nobody overtakes: a small server that passed a large one again and again would keep it waiting for ever.
    """
    gone: list[str] = []
    for launch_id, asks in line:
        if why := lacks(bounds, held, asks):
            return tuple(gone), why
        held = held.plus(asks)
        gone.append(launch_id)
    return tuple(gone), ""


def promised(look: Iterable[Capacity], bounds: Bounds, held: Holding) -> list[Capacity]:
    """What a place says of itself, with the room that the hub keeps there in the place of what was measured."""
    return [_promised(seen, bounds.room, held) for seen in look]


def _promised(seen: Capacity, room: Room, held: Holding) -> Capacity:
    cores = seen.total.cores if room.cores is None else room.cores
    memory = seen.total.memory_bytes if room.memory_bytes is None else room.memory_bytes
    return replace(
        seen,
        free_cores=cores if room.cores is None else max(0.0, room.cores - held.cores),
        free_memory_bytes=memory if room.memory_bytes is None else max(0, room.memory_bytes - held.memory_bytes),
        total=replace(seen.total, cores=cores, memory_bytes=memory),
        holds_back=True,
    )


def waits(place: str, number: int, why: str) -> str:
    """One step of a start that waits for its turn: ``place`` in words, ``number`` 1 for who is next."""
    line = "next in line" if number == 1 else f"number {number} in line"
    because = f" {place[:1].upper()}{place[1:]}: {why}." if why else ""
    return f"Waiting in this hub's own queue, {line}.{because}"


def too_long(place: str, waited: str) -> str:
    """Why a launch that waited for its turn is given up."""
    return (
        f"No turn came within {waited} in this hub's own queue for {place}. Try again later, or choose a smaller "
        "profile or another place; how long a start may wait there is the administrator's setting (queue_wait_s)."
    )
