"""Places where servers run, and how a site ranks them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

AUTO = "auto"
WHERE = {"local": "this machine", "kubernetes": "Kubernetes", "slurm": "SLURM"}
"""Names of backends for people; others are shown as they are."""


class Place(NamedTuple):
    """Where a server can be put."""

    backend: str
    partition: str = ""

    def __str__(self) -> str:
        return f"{self.backend}:{self.partition}" if self.partition else self.backend

    @property
    def words(self) -> str:
        """For a sentence: ``SLURM partition gpu``."""
        name = WHERE.get(self.backend, self.backend)
        return f"{name} partition {self.partition}" if self.partition else name

    def within(self, other: Place) -> bool:
        """Whether it is that place, or a partition of it."""
        return self == other or (self.backend == other.backend and not other.partition)


def place(text: str) -> Place:
    """``slurm:gpu`` as a place."""
    backend, _, partition = text.partition(":")
    return Place(backend, partition)


class Wish(StrEnum):
    """What a site wants of the order."""

    NOW = "now"
    """Where it starts first."""
    CHEAP = "cheap"
    """Where it costs the site least."""
    PREFERRED = "preferred"
    """In the site's order."""


@dataclass(frozen=True)
class Policy:
    """How candidates are ranked; the site's traits."""

    wish: Wish = Wish.NOW
    preferred: tuple[str, ...] = ()
    """Places, the best first; those left out follow in the order of profile and hub."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Place → its weight; a partition without one has its backend's, and a backend without one has 1."""
    patience_s: float = 3600.0
    """So long a cheaper or preferred place is waited for while another has room."""
    stale_s: float = 60.0

    def cost(self, where: Place) -> float:
        """What a server there weighs."""
        return self.costs.get(str(where), self.costs.get(where.backend, 1.0))

    def preference(self, where: Place) -> int:
        """Its number in the site's order."""
        for i, name in enumerate(self.preferred):
            if where.within(place(name)):
                return i
        return len(self.preferred)
