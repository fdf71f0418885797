"""What a place that schedules by itself gives a launch, and what its accounting says of it afterwards: values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Given:
    """What was allocated. A ``None`` is "not told", not zero."""

    cores: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a launch has of its place just now."""

    given: Given | None
    """None: nothing, while it is suspended or waits to run again; that time is not counted."""
    since: datetime | None = None
    """When its present run began; None: not told."""
    ends_at: datetime | None = None
    """When its place will end it because its time is over; None: never, or that cannot be told now."""


@dataclass(frozen=True)
class Run:
    """One run of a launch; one that was requeued has several."""

    given: Given
    from_at: datetime
    to_at: datetime
    counted_s: int
    """Seconds of it in which it was not suspended."""


@dataclass(frozen=True)
class Booked:
    """What is known of all that a launch has used, after its end."""

    runs: tuple[Run, ...]
    """Oldest first. Where it is not ``final``, what was used before the first one stays as it was counted."""
    source: str
    """Who says so: ``sacct``, ``squeue``."""
    final: bool
    """False: the place's accounting could not say so yet, and is asked again later."""
