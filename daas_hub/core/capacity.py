"""What a place has free: values that backends tell and placement judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Room:
    """An amount of room, free or in all. A ``None`` is "not known", not zero."""

    cores: float | None = None
    memory_bytes: int | None = None
    gpus: Mapping[str, int] | None = None
    """By type, as the place calls them; ``""`` where a type is not told."""


@dataclass(frozen=True)
class NodeRoom:
    """One node that takes servers: a server must find all of its room on one."""

    name: str
    free: Room = Room()
    total: Room = Room()
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    """Keys of those that keep servers away which do not tolerate them."""


@dataclass(frozen=True)
class Release:
    """What a node gets back when something there ends, at the latest."""

    at: datetime
    node: str
    room: Room


@dataclass(frozen=True)
class Capacity:
    """What a backend, or one partition of it, has free, with its age. ``as_of`` None: never asked, so unknown."""

    backend: str
    as_of: datetime | None
    free_cores: float | None = None
    free_memory_bytes: int | None = None
    free_gpus: int | None = None
    enforces_limits: bool = True
    """False where CPU and memory limits cannot be held; pages say so."""
    note: str = ""
    partition: str = ""
    """A backend with partitions gives one Capacity for each that a server may be placed in, the default one first."""
    free_gpus_by_type: Mapping[str, int] = field(default_factory=dict)
    """What ``free_gpus`` is the sum of, where types are told."""
    total: Room = Room()
    """In all, whoever uses it; where nodes are given, they count instead."""
    nodes: tuple[NodeRoom, ...] = ()
    """Where they are known, all that can take servers now."""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that take a server here; a profile may ask for more."""
    tolerated: frozenset[str] = frozenset()
    """Keys of taints that a server here tolerates whose profile says nothing else; ``""``: every one."""
    grows: bool = False
    """More or larger nodes may come: nothing is ever too large for it."""
    pending: int | None = None
    """Servers or jobs that wait for room here."""
    idle_nodes: int | None = None
    starts_at: datetime | None = None
    """When a server would start, as the place's own scheduler answers (a test-only submission): it outweighs what is
    free. None: it cannot tell, or was not asked."""
    releases: tuple[Release, ...] = ()
    """What frees up when, at the latest, the earliest first; where ``starts_at`` is not told."""
    closed: str = ""
    """Why nothing new is started here just now, in words ("the partition is drained"); empty: it is open."""
    by_limit: bool = False
    """A server takes its limit there, in whole cores, and not its guarantee: a job has what it may use."""
    holds_back: bool = True
    """A server that finds no room waits; False: it begins at once and shares what there is."""
