"""Whether a host fits its cluster: the version of its programs and its clock, beside the controllers' own."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from .slurm_launches import CLOCKS

_TOLD = re.compile(r"Configuration data as of ([0-9]{1,11})\s")
_VERSION = re.compile(r"(?:\S+ )?([0-9]{2})\.([0-9]{2})(?:\.\S*)?")


def controllers_time(text: str) -> datetime:
    """The controller's time when it answered ``scontrol show config`` (times as seconds). Raises ValueError."""
    found = _TOLD.match(text)
    if found is None:
        raise ValueError(f"The answer does not begin with the controller's time: {text[:200]!r}")
    return datetime.fromtimestamp(int(found[1]), UTC)


def clock_problem(told: datetime, asked: datetime, answered: datetime) -> str:
    """What is wrong with a host whose clock said ``asked`` and ``answered`` around the controller's ``told``; or "".

    The controller tells whole seconds: up to one of them has gone by unseen.
    """
    behind_s, ahead_s = (told - answered).total_seconds(), (asked - told).total_seconds() - 1
    allowed_s = CLOCKS.total_seconds()
    if max(behind_s, ahead_s) <= allowed_s:
        return ""
    word, by_s = ("ahead of", ahead_s) if ahead_s > behind_s else ("behind", behind_s)
    return f"this clock is {by_s:.0f} s {word} the controller's; {allowed_s:g} s are allowed"


def version_problem(ours: str, theirs: str) -> str:
    """What is wrong with programs of one version and a controller of another; "" where they understand each other.

    A controller understands programs of its own release and of older ones (SLURM's guide to upgrades).
    """
    here, there = (_VERSION.fullmatch(text.strip()) for text in (ours, theirs))
    if here is None or there is None:
        raise ValueError(f"{ours!r} and {theirs!r} are no versions of SLURM")
    if (int(here[1]), int(here[2])) <= (int(there[1]), int(there[2])):
        return ""
    return f"sbatch here is {ours.strip()}, newer than the controllers ({theirs.strip()}): they do not understand it"
