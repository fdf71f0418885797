"""Whether a server finds room at one place: now, later, never, or nobody can tell. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from .capacity import Capacity, NodeRoom, Room
from .models import Resources
from .units import format_bytes, format_cores, format_duration


class Fit(StrEnum):
    """What can be said of a server at a place."""

    NOW = "now"
    LATER = "later"
    """It is full, or closed, just now."""
    CROWDED = "crowded"
    """It is full and holds nothing back: a server begins at once, and shares what there is."""
    UNKNOWN = "unknown"
    NEVER = "never"
    """Nothing there is large enough, whoever leaves."""


@dataclass(frozen=True)
class Need:
    """What a server must find on one node."""

    cores: float = 0
    memory_bytes: int = 0
    gpus: int = 0
    gpu_type: str = ""
    """Of that type, where the place tells types; empty: of any."""
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of a node, besides those that the place asks for anyway."""
    tolerated: frozenset[str] | None = None
    """Keys of taints; None: those that the place has it tolerate."""


@dataclass(frozen=True)
class Verdict:
    """A fit with its reason in words."""

    fit: Fit
    reason: str
    starts_at: datetime | None = None
    """When there will be room, where the place can tell."""


_GRES = re.compile(r"gpu:([A-Za-z][\w.-]*)(?::\d+)?", re.ASCII)


def need_of(resources: Resources, override: Mapping[str, Any], *, by_limit: bool = False) -> Need:
    """What a profile's server needs: the guarantee, and the limit where none is set, as Kubernetes reads it.

    ``by_limit``: the limit, and the guarantee where none is set, in whole cores and at least one, as a job has it.
    The type of GPU is that of the ``gres`` that the profile asks of SLURM; nodes are those of its ``node_selector`` and
    ``tolerations`` for Kubernetes.
    """
    selector, tolerations = override.get("node_selector"), override.get("tolerations")
    slurm = override.get("slurm")
    gres = slurm.get("gres") if isinstance(slurm, Mapping) else None
    typed = _GRES.fullmatch(gres) if isinstance(gres, str) else None
    r = resources
    cores, memory = [r.cpu_guarantee, r.cpu_limit], [r.mem_guarantee_bytes, r.mem_limit_bytes]
    if by_limit:
        cores, memory = [math.ceil(max(each, 1)) for each in cores[::-1] if each is not None] or [1], memory[::-1]
    return Need(
        cores=next((each for each in cores if each is not None), 0),
        memory_bytes=next((each for each in memory if each is not None), 0),
        gpus=r.gpus,
        gpu_type=typed[1] if typed is not None else "",
        selector=dict(selector) if isinstance(selector, Mapping) else {},
        tolerated=tolerated_keys(tolerations) if tolerations is not None else None,
    )


def tolerated_keys(tolerations: object) -> frozenset[str]:
    """The keys in KubeSpawner's ``tolerations``; ``""`` where one tolerates everything."""
    listed = tolerations if isinstance(tolerations, (list, tuple)) else ()
    return frozenset(str(each.get("key") or "") for each in listed if isinstance(each, Mapping))


def nodes_for(seen: Capacity, need: Need) -> list[NodeRoom]:
    """The nodes on which the server may be."""
    selector = {**seen.selector, **need.selector}
    tolerated = seen.tolerated if need.tolerated is None else need.tolerated
    return [
        node
        for node in seen.nodes
        if all(node.labels.get(name) == value for name, value in selector.items())
        and ("" in tolerated or tolerated.issuperset(node.taints))
    ]


def judge(seen: Capacity, need: Need, *, now: datetime, stale_s: float) -> Verdict:
    """Whether the server finds room at this place. What was seen longer than ``stale_s`` ago is not known any more."""
    if seen.as_of is None:
        return Verdict(Fit.UNKNOWN, _with_note("it has not told what is free", seen))
    age_s = (now - seen.as_of).total_seconds()
    if age_s > stale_s:
        return Verdict(Fit.UNKNOWN, _with_note(f"what is free was last seen {format_duration(age_s)} ago", seen))
    if (short := _too_small(seen, need)) is not None:
        return Verdict(Fit.NEVER, short)
    if seen.closed:
        return Verdict(Fit.LATER, seen.closed, seen.starts_at if _later(seen.starts_at, now) else None)
    if seen.starts_at is not None:
        # The scheduler's own answer: it knows who else waits.
        if _later(seen.starts_at, now):
            return Verdict(Fit.LATER, "its own scheduler says so", seen.starts_at)
        return Verdict(Fit.NOW, "its own scheduler says so")
    return _by_room(seen, need, now)


SOON = timedelta(seconds=60)
"""A start that is estimated this near is one now."""


def _later(starts_at: datetime | None, now: datetime) -> bool:
    return starts_at is not None and starts_at > now + SOON


def _by_room(seen: Capacity, need: Need, now: datetime) -> Verdict:
    rooms = [node.free for node in nodes_for(seen, need)] if seen.nodes else [free_of(seen)]
    found = [shortage(room, need) for room in rooms]
    if "" in found:
        waiting = f", {seen.pending} wait there" if seen.pending else ""
        return Verdict(Fit.NOW, _with_note(f"it has room{waiting}", seen))
    if None in found:
        return Verdict(Fit.UNKNOWN, _with_note("it does not tell what is free", seen))
    if not seen.holds_back:
        return Verdict(Fit.CROWDED, f"it is full now: {_best(rooms, need)}; a server starts at once and shares it")
    # Of several nodes the one that lacks least says the most, but any of them is true.
    starts_at = _room_at(seen, need)
    return Verdict(
        Fit.LATER, f"it is full now: {_best(rooms, need)}", None if starts_at is None else max(starts_at, now)
    )


def _room_at(seen: Capacity, need: Need) -> datetime | None:
    """When enough has ended on some node, at the latest; None: nobody can tell."""
    rooms = {node.name: node.free for node in nodes_for(seen, need)}
    for each in seen.releases:
        if each.node in rooms:
            room = rooms[each.node] = _plus(rooms[each.node], each.room)
            if shortage(room, need) == "":
                return each.at
    return None


def _plus(room: Room, more: Room) -> Room:
    gpus = Counter(room.gpus or {})
    # A job may not tell the types of its GPUs: then only their number is known.
    typed = more.gpus or {}
    only = next(iter(gpus)) if len(gpus) == 1 else ""
    gpus.update({kind or only: number for kind, number in typed.items()})
    return Room((room.cores or 0) + (more.cores or 0), (room.memory_bytes or 0) + (more.memory_bytes or 0), dict(gpus))


def free_of(seen: Capacity) -> Room:
    """What is free in all, as room."""
    gpus: Mapping[str, int] | None = seen.free_gpus_by_type or None
    if gpus is None and seen.free_gpus is not None:
        gpus = {"": seen.free_gpus}
    return Room(seen.free_cores, seen.free_memory_bytes, gpus)


def _too_small(seen: Capacity, need: Need) -> str | None:
    """Why the server can never be there, in words; None where it can, or where that cannot be told."""
    if seen.grows:
        return None
    rooms = [node.total for node in nodes_for(seen, need)] if seen.nodes else [seen.total]
    if not all(shortage(room, need) for room in rooms):
        return None
    return f"it is too small: {_best(rooms, need, of='the largest has')}"


def _best(rooms: list[Room], need: Need, of: str = "free are at most") -> str:
    """What lacks, with the largest amount of it that there is."""
    parts = []
    for resource, asked in (("cores", need.cores), ("memory_bytes", need.memory_bytes), ("gpus", need.gpus)):
        there = [n for n in (_amount(room, resource, need) for room in rooms) if n is not None]
        if there and max(there) < asked:
            parts.append(f"{_said(resource, asked, need.gpu_type)} needed, {of} {_said(resource, max(there), '')}")
    if not rooms:
        return "it has no node for it"
    return " and ".join(parts) or "no node has all of it at once"


def _amount(room: Room, resource: str, need: Need) -> float | None:
    if resource != "gpus":
        amount: float | None = getattr(room, resource)
        return amount
    if room.gpus is None:
        return None
    if need.gpu_type and any(room.gpus.keys() - {""}):
        return room.gpus.get(need.gpu_type, 0)
    return sum(room.gpus.values())


def shortage(room: Room, need: Need) -> str | None:
    """The resource of which there is too little; empty where all is enough, None where that cannot be told."""
    unknown = False
    for resource, asked in (("cores", need.cores), ("memory_bytes", need.memory_bytes), ("gpus", need.gpus)):
        amount = _amount(room, resource, need) if asked else asked
        if amount is None:
            unknown = True
        elif amount < asked:
            return resource
    return None if unknown else ""


def _said(resource: str, amount: float, gpu_type: str) -> str:
    match resource:
        case "memory_bytes":
            return f"{format_bytes(amount)} of memory"
        case "cores":
            # Rounded down: 3.999 free cores are not 4.
            return format_cores(math.floor(amount * 100) / 100)
        case _:
            return f"{amount:g} {gpu_type + ' ' if gpu_type else ''}GPU{'' if amount == 1 else 's'}"


def _with_note(words: str, seen: Capacity) -> str:
    return f"{words} ({seen.note})" if seen.note else words
