"""What the reconciler does about each launch and each server that was found: decisions, without I/O.

Ledger, hub and backends are compared; the ledger is right about what should be, the backend about what is. Unknown
is never "ended", and what the hub does itself (a start, a stop, the end of its own server) it is given time for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from .models import ACTIVE, Found, Handle, LaunchState, Life, Observation, Target
from .turns import RESTARTED


class Do(StrEnum):
    """What to do."""

    SAVE_HANDLE = "save_handle"
    """A start was interrupted before it could save where its server is; it was found."""
    SETTLE = "settle"
    """End the launch, on the evidence given."""
    ADOPT = "adopt"
    """Ask the hub to start this server: the spawner then takes over the one that runs, or its place in the queue."""
    BLOCK = "block"
    """Its owner may not use the hub any more: STOP, with that as the reason."""
    STOP = "stop"
    """Stop it at the backend and settle it once that is certain."""
    REAP = "reap"
    """Stop a server that no active launch stands for; remove what a launch left that is over."""


@dataclass(frozen=True)
class Action:
    """One thing to do. ``launch_id`` is empty only for a found server that names none."""

    do: Do
    launch_id: str
    why: str
    handle: Handle | None = None
    observation: Observation | None = None


@dataclass(frozen=True)
class Launch:
    """What of an active launch's row matters here."""

    id: str
    user_name: str
    backend: str
    state: LaunchState
    target: Target
    of_this_boot: bool
    created_at: datetime
    stopping_since: datetime | None
    handle: Handle | None


@dataclass(frozen=True)
class Graces:
    """How long others are given before the reconciler acts, in seconds."""

    lost_start_s: float = 30.0
    """A start of an earlier boot without a handle: until it is settled where nothing of it is found."""
    requeue_s: float = 600.0
    """A start of an earlier boot that waited in the hub's own queue: for so long the hub is asked to start it again."""
    unanswered_s: float = 600.0
    """A start of an earlier boot that is seen to run and does not answer: until it is stopped."""
    ended_s: float = 20.0
    """A server of this boot that has ended: until it is settled here, with less to tell than the hub has."""
    stop_s: float = 70.0
    """A stop that the hub is at: until it is tried here (the hub's own takes 60 s at most)."""
    reap_s: float = 30.0
    """A server, or what a launch left, that no active launch stands for: until it is stopped and removed."""


@dataclass(frozen=True)
class Memory:
    """Since when something has been as it is, over passes; a reconciler that starts anew remembers nothing."""

    since: Mapping[str, datetime] = field(default_factory=dict)

    def passed(self, key: str, now: datetime, grace_s: float) -> bool:
        """Whether it has been so for that long."""
        return key in self.since and now - self.since[key] >= timedelta(seconds=grace_s)

    def next_due_s(self, now: datetime, grace_s: float) -> float | None:
        """In how many seconds the first of them has been so for that long; None where none will come to it."""
        left_s = (grace_s - (now - since).total_seconds() for since in self.since.values())
        return min((one for one in left_s if one > 0), default=None)

    def after(self, keys: Collection[str], now: datetime) -> Memory:
        """What is remembered after a pass in which exactly ``keys`` were so."""
        return Memory({key: self.since.get(key, now) for key in keys})


@dataclass(frozen=True)
class Seen:
    """What was seen in one pass. ``found`` was looked for before the rows were read, so a new start has its row."""

    launches: Sequence[Launch]
    """Every active launch of the ledger."""
    found: Mapping[str, Sequence[Found]]
    """Backend → what exists there; a backend that could not be asked is not in it."""
    life: Mapping[str, Observation]
    """Launch → a look at its handle."""
    answering: Collection[str]
    """Launches of an earlier boot whose server answers over HTTP."""
    blocked: Collection[str] = ()
    """Users who may not use the hub."""
    left: Mapping[str, Sequence[Handle]] = field(default_factory=dict)
    """Backend → launches of which anything exists there, with or without a server; looked for before the rows were
    read, as ``found``."""
    now: datetime = field(kw_only=True)


def decide(seen: Seen, memory: Memory, graces: Graces) -> tuple[list[Action], Memory]:
    """What to do now, and what to remember for the next pass."""
    keys: set[str] = set()
    actions = []
    for launch in seen.launches:
        if launch.state in ACTIVE:
            actions += _about(launch, seen, memory, graces, keys)
    for key, action in _orphans(seen):
        keys.add(key)
        if memory.passed(key, seen.now, graces.reap_s):
            actions.append(action)
    return actions, memory.after(keys, seen.now)


def _orphans(seen: Seen) -> Iterator[tuple[str, Action]]:
    """What exists for no active launch, each with the key by which it is remembered."""
    known = {launch.id for launch in seen.launches}
    for backend, servers in seen.found.items():
        for server in servers:
            if server.launch_id not in known:
                why = f"{backend} runs a server for which the ledger has no active launch"
                action = Action(Do.REAP, server.launch_id or "", why, handle=server.handle)
                yield f"orphan:{backend}:{server.launch_id or server.handle}", action
        known |= {server.launch_id for server in servers if server.launch_id}
    for backend, handles in seen.left.items():
        for handle in handles:
            if handle["launch_id"] not in known:
                why = f"{backend} has what a launch left that is not active"
                yield f"left:{backend}:{handle['launch_id']}", Action(Do.REAP, handle["launch_id"], why, handle=handle)


def _about(launch: Launch, seen: Seen, memory: Memory, graces: Graces, keys: set[str]) -> list[Action]:
    """The one thing to do about a launch, if there is one (each line has its test)."""
    if launch.handle is None and launch.state is LaunchState.QUEUED:
        return _queued(launch, seen, memory, graces, keys)
    if launch.handle is None:
        return _without_handle(launch, seen, graces)
    look = seen.life.get(launch.id, Observation(Life.UNKNOWN))
    if look.life is Life.ENDED:
        return _ended(launch, look, seen, memory, graces, keys)
    unwanted = launch.target is Target.STOPPED
    if launch.user_name in seen.blocked and not unwanted:
        return [Action(Do.BLOCK, launch.id, "the account may not use this hub any more", launch.handle)]
    if launch.state is LaunchState.STOPPING:
        return _stopping(launch, seen, graces)
    if unwanted:
        return [Action(Do.STOP, launch.id, "it should not run any more", launch.handle)]
    if launch.of_this_boot or look.life is Life.UNKNOWN:
        return []
    if launch.id in seen.answering:
        return [Action(Do.ADOPT, launch.id, "it outlived an earlier boot of the hub and answers")]
    if launch.state is LaunchState.RUNNING:
        return []
    # Since it was seen, not since it was begun: in an outage of its backend nobody could have come up.
    key = f"unanswered:{launch.id}"
    keys.add(key)
    if memory.passed(key, seen.now, graces.unanswered_s):
        return [Action(Do.STOP, launch.id, "its start was interrupted with the hub, and it never answered")]
    return []


def _queued(launch: Launch, seen: Seen, memory: Memory, graces: Graces, keys: set[str]) -> list[Action]:
    """It waited in the hub's own queue and has nothing anywhere: its owner's next start takes its place in the line.

    The hub is asked for that start; where it cannot be had (she may not any more, or is gone) the wait is over.
    """
    if launch.of_this_boot:
        return []
    key = f"queued:{launch.id}"
    keys.add(key)
    wanted = launch.target is Target.RUNNING and launch.user_name not in seen.blocked
    if wanted and not memory.passed(key, seen.now, graces.requeue_s):
        return [Action(Do.ADOPT, launch.id, "it waited for its turn when the hub was restarted")]
    over = Observation(Life.ENDED, reason=RESTARTED)
    return [Action(Do.SETTLE, launch.id, "it waited in the hub's own queue, so nothing was started", observation=over)]


def _without_handle(launch: Launch, seen: Seen, graces: Graces) -> list[Action]:
    """Nothing was saved: a start of this boot goes on; one of an earlier boot is looked for, then settled."""
    if launch.of_this_boot or launch.backend not in seen.found:
        return []
    for server in seen.found[launch.backend]:
        if server.launch_id == launch.id:
            return [Action(Do.SAVE_HANDLE, launch.id, "found after its start was interrupted", handle=server.handle)]
    if seen.now - launch.created_at < timedelta(seconds=graces.lost_start_s):
        return []
    nothing = Observation(Life.ENDED, reason="the hub was interrupted while starting it")
    why = f"{launch.backend} has nothing of this launch, and the hub that began it is gone"
    return [Action(Do.SETTLE, launch.id, why, observation=nothing)]


def _ended(
    launch: Launch, look: Observation, seen: Seen, memory: Memory, graces: Graces, keys: set[str]
) -> list[Action]:
    """Its own hub sees the end first and knows the exit status; whatever it left is settled after a grace."""
    key = f"ended:{launch.id}"
    keys.add(key)
    if launch.of_this_boot and not memory.passed(key, seen.now, graces.ended_s):
        return []
    return [Action(Do.SETTLE, launch.id, f"{launch.backend} reports that it has ended", launch.handle, look)]


def _stopping(launch: Launch, seen: Seen, graces: Graces) -> list[Action]:
    """A stop that was begun: the hub's own, unless it is gone or has given up."""
    since = launch.stopping_since or launch.created_at
    if launch.of_this_boot and seen.now - since < timedelta(seconds=graces.stop_s):
        return []
    return [Action(Do.STOP, launch.id, "its stop was not confirmed", launch.handle)]
