"""What to answer when the hub polls, stops or starts: decisions over a launch's row, without I/O.

JupyterHub calls ``poll``, ``stop`` and ``start`` for many reasons and does not say which (design.md §4.1, §4.2).
The reason follows from facts: what the ledger says, and what this Spawner object has lived through.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from .models import Handle, LaunchState, Life, Target

STALE_AFTER_S = 2.0
"""An observation older than this is looked at again before a poll is answered."""


ON_REQUEST = "stopped on request"
CANCELLED = "the start was cancelled"
TOO_LONG = "the start took too long"
"""Why a launch ended, where nothing else is known."""


def start_failed(state: LaunchState, started_at: datetime | None, reason: str, target_by: str) -> bool:
    """Whether a launch is a start that failed by itself: it never ran, and no person or service wanted it to end."""
    return state is LaunchState.ENDED and started_at is None and reason != CANCELLED and target_by in {"", "hub"}


def state_words(state: str) -> str:
    """A state for a person: what the ledger calls submitted is a start that goes on."""
    return "starting" if state == LaunchState.SUBMITTED else str(state)


def taken_over(row_state: LaunchState, created_at: datetime, profile: str, *, chose_other: bool) -> str:
    """The step of a start that found an earlier one, or its server: which that is, and whether her choice counts."""
    if row_state is LaunchState.RUNNING:
        found, first = f"Found your running server ({profile})", "stop this server"
    else:
        begun = f"begun at {created_at:%H:%M} UTC"
        found, first = f"A start of this server ({profile}), {begun}, was not over: it goes on", "cancel this start"
    if not chose_other:
        return found
    return f"{found}. What you chose now was not taken: to have it, {first}, then start again."


def limits_warning(handle: Handle) -> str:
    """For her who starts it: that its CPU and memory are not limited where it runs, and why. Empty: they are."""
    if handle.get("enforces_limits", True):
        return ""
    return f"CPU and memory {handle.get('limits_note') or 'limits not enforced here'}"


class Poll(StrEnum):
    """What `poll` should do."""

    RUNNING = "running"
    """Answer None."""
    FORGET = "forget"
    """Answer 0: the hub drops its own row, the launch goes on and is adopted later."""
    ENDED = "ended"
    """Answer the exit code; the launch is settled."""
    PROBE = "probe"
    """Answer None only if the server itself answers over HTTP, else as FORGET."""


def decide_poll(state: LaunchState | None, life: Life, *, of_this_boot: bool) -> Poll:
    """What a poll answers. ``life`` is the freshest observation, ``of_this_boot``: this hub process started it.

    A launch of an earlier boot that was not yet RUNNING, or is being stopped, is dropped by the hub and left to
    the reconciler: the hub would otherwise wait for it and then stop it. Unknown is never "ended".
    """
    if state is None or state is LaunchState.ENDED or life is Life.ENDED:
        return Poll.ENDED
    if of_this_boot:
        return Poll.RUNNING
    if state is LaunchState.RUNNING:
        return Poll.PROBE
    return Poll.FORGET


class Started(StrEnum):
    """What this Spawner object's own ``start()`` did."""

    NOT_HERE = "not_here"
    FRESH = "fresh"
    ADOPTED = "adopted"


class Stop(StrEnum):
    """What `stop` should do."""

    NOTHING = "nothing"
    DETACH = "detach"
    """Let the hub forget the server; it goes on."""
    STOP = "stop"


def decide_stop(state: LaunchState | None, *, started: Started, start_pending: bool, polling_began: bool) -> Stop:
    """Who asked for this stop, and so what to do (each row of the table has its test).

    ===================  ==============  ===============  ==========================================  =======
    state                start pending   polling began    so it was                                   answer
    ===================  ==============  ===============  ==========================================  =======
    none or ENDED        any             any              nothing to stop                             NOTHING
    active               yes, fresh      any              the hub gave up on a start                  STOP
    active               yes, adopted    any              the hub gave up on an adoption              DETACH
    active               no, not here    no               the check at boot                           DETACH
    active               no              otherwise        a person, the culler or a limit asked       STOP
    ===================  ==============  ===============  ==========================================  =======
    """
    if state is None or state is LaunchState.ENDED:
        return Stop.NOTHING
    if start_pending:
        return Stop.DETACH if started is Started.ADOPTED else Stop.STOP
    if started is Started.NOT_HERE and not polling_began:
        return Stop.DETACH
    return Stop.STOP


class Begin(StrEnum):
    """What a start does about the active launch of the same account and server, if there is one."""

    FRESH = "fresh"
    ADOPT = "adopt"
    SETTLE_FIRST = "settle_first"
    """It has ended, with evidence: settle it, then start anew."""
    SEARCH_FIRST = "search_first"
    """No handle was saved: ask the backend whether anything of this launch exists, then decide again."""
    REFUSE_STOPPING = "refuse_stopping"
    REFUSE_STARTING = "refuse_starting"


def decide_begin(
    state: LaunchState | None, target: Target, *, life: Life, has_handle: bool, of_this_boot: bool
) -> Begin:
    """What a start does first. A launch that is being stopped is never adopted, a pending one never doubled."""
    if state is None or state is LaunchState.ENDED:
        return Begin.FRESH
    if has_handle and life is Life.ENDED:
        return Begin.SETTLE_FIRST
    if state is LaunchState.STOPPING or target is Target.STOPPED:
        return Begin.REFUSE_STOPPING if has_handle else Begin.SEARCH_FIRST
    if has_handle:
        return Begin.ADOPT
    return Begin.REFUSE_STARTING if of_this_boot else Begin.SEARCH_FIRST
