"""SLURM's jobs as values: states, what sacct prints, times and sizes as SLURM writes them, the queue's order. Pure.

What squeue prints of all jobs is read in ``slurm_queue.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from functools import lru_cache

from .slurm_words import WAIT_FOR_ROOM


class Phase(StrEnum):
    """What a job's state means for who waits for it or uses it."""

    WAITING = "waiting"
    """It has no nodes, and may get some."""
    RUNNING = "running"
    """It has its nodes."""
    SUSPENDED = "suspended"
    """It has been stopped and can go on."""
    ENDING = "ending"
    """Its processes end, or its files are copied away."""
    ENDED = "ended"
    UNKNOWN = "unknown"
    """A word that nobody here knows, or a job of a federation that may run elsewhere: it must not count as ended."""


PHASES: Mapping[str, Phase] = {
    "PENDING": Phase.WAITING,
    "REQUEUED": Phase.WAITING,
    "REQUEUE_FED": Phase.WAITING,
    "REQUEUE_HOLD": Phase.WAITING,
    "SPECIAL_EXIT": Phase.WAITING,
    "RESV_DEL_HOLD": Phase.WAITING,
    "EXPEDITING": Phase.WAITING,
    "CONFIGURING": Phase.RUNNING,
    "RUNNING": Phase.RUNNING,
    "RESIZING": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "SUSPENDED": Phase.SUSPENDED,
    "STOPPED": Phase.SUSPENDED,
    "COMPLETING": Phase.ENDING,
    "STAGE_OUT": Phase.ENDING,
    "BOOT_FAIL": Phase.ENDED,
    "CANCELLED": Phase.ENDED,
    "COMPLETED": Phase.ENDED,
    "DEADLINE": Phase.ENDED,
    "FAILED": Phase.ENDED,
    "NODE_FAIL": Phase.ENDED,
    "OUT_OF_MEMORY": Phase.ENDED,
    "PREEMPTED": Phase.ENDED,
    "TIMEOUT": Phase.ENDED,
    "REVOKED": Phase.UNKNOWN,
}
"""Every state that ``squeue`` prints in full, of versions 22.05 to 25.11."""


def phase(state: str) -> Phase:
    """The phase of a job in this state; UNKNOWN for a word that the table does not have."""
    return PHASES.get(state, Phase.UNKNOWN)


@dataclass(frozen=True)
class Tres:
    """Trackable resources: what was allocated, or what is asked for while a job waits."""

    cpus: int = 0
    memory_bytes: int | None = None
    """None: memory is not tracked here."""
    gpus: int = 0
    gpu_types: tuple[tuple[str, int], ...] = ()
    """Type and number, of those whose type is known."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the queue, as the controller knows it; ended ones stay for slurm.conf's MinJobAge."""

    id: int
    state: str
    uid: int
    user: str
    partition: str
    """While it waits also several, with commas."""
    host: str
    """The node of its batch script; empty while it has none."""
    submitted_at: datetime
    started_at: datetime | None
    expected_at: datetime | None
    """While it waits: when the scheduler expects it to start, or when it may start at the earliest."""
    limit_s: int | None
    """Its walltime; None: unlimited, or not decided yet."""
    elapsed_s: int
    """Of one that has ended, or ends: how long it ran, without the time in which it was suspended; else 0."""
    priority: int
    """0: it is held."""
    reason: str
    cpus: int
    memory_bytes: int | None
    gpus: int
    gpu_types: tuple[tuple[str, int], ...]
    comment: str
    ends_at: datetime | None = None
    """When it ended; while it runs: when its walltime will be over. None: never, not known, or it is suspended."""
    restarts: int = 0
    """How often it was requeued; each time it counts as submitted anew."""

    phase: Phase = field(init=False, repr=False, compare=False)
    """What its state means."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", phase(self.state))


SEEN = 4096
"""How many words are kept as read: the same ones come in every look."""
NOTHING = frozenset({"", "(null)", "N/A", "n/a", "NONE", "None", "Unknown"})


def text_of(said: str) -> str:
    """What it said where it said something: SLURM has several words for nothing."""
    return "" if said in NOTHING else said


_SECONDS = re.compile(r"-?\d{1,20}", re.ASCII)
NEVER_S = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
"""Whoever submits a job chooses its begin, also one that no calendar has (``--begin=now+500000weeks``)."""


@lru_cache(SEEN)
def parse_time(said: str) -> datetime | None:
    """A time as SLURM prints it with ``SLURM_TIME_FORMAT=%s``; None where there is none, or none that anybody lives to
    see. Raises ValueError."""
    if said in NOTHING:
        return None
    if not _SECONDS.fullmatch(said):
        raise ValueError(f"{said!r} is no time in seconds: SLURM_TIME_FORMAT did not reach the program.")
    return datetime.fromtimestamp(int(said), UTC) if 0 < int(said) < NEVER_S else None


_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", re.ASCII)
_NO_DURATION = NOTHING | {"UNLIMITED", "NOT_SET", "INVALID", "infinite", "Partition_Limit"}


@lru_cache(SEEN)
def parse_duration(said: str) -> int | None:
    """Seconds of ``[days-][hours:]minutes:seconds``; None for what is unlimited, not set or not known."""
    if said in _NO_DURATION:
        return None
    match = _DURATION.fullmatch(said)
    if match is None:
        raise ValueError(f"{said!r} is no duration as SLURM prints it: 1-02:03:04 is.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)", re.ASCII)


def parse_size(said: str) -> int:
    """Bytes of ``100M`` (powers of 1024; without a letter it is MiB, as everywhere in SLURM). Raises ValueError."""
    match = _SIZE.fullmatch(said)
    if match is None:
        raise ValueError(f"{said!r} is no size as SLURM prints it: 100M is.")
    return int(float(match[1]) * 1024 ** ("KMGTPE".index(match[2] or "M") + 1))


@lru_cache(SEEN)
def parse_tres(said: str) -> Tres:
    """``cpu=4,mem=100M,node=1,gres/gpu=2,gres/gpu:a100=2``: unknown resources are passed over. Raises ValueError."""
    if said in NOTHING:
        return Tres()
    amounts = {name: amount for name, _, amount in (part.partition("=") for part in said.split(","))}
    types = {name.partition(":")[2]: int(n) for name, n in amounts.items() if name.startswith("gres/gpu:")}
    memory = amounts.get("mem")
    return Tres(
        cpus=int(amounts.get("cpu", 0)),
        memory_bytes=None if memory is None else parse_size(memory),
        # A type's number is counted in the whole as well, where the site tracks the whole.
        gpus=int(amounts["gres/gpu"]) if "gres/gpu" in amounts else sum(types.values()),
        gpu_types=tuple(sorted(types.items())),
    )


def comment_of(hub_id: str, launch_id: str) -> str:
    """The comment that says whose job it is. A claim, no proof: anybody can write one (design.md, 4.3)."""
    return f"daas:{hub_id}:{launch_id}"


_LAUNCH = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def launch_of(comment: str, hub_id: str) -> str | None:
    """The launch id in a comment of this hub; None where it is no such comment, or more than one."""
    before = comment_of(hub_id, "")
    launch_id = comment.removeprefix(before)
    return launch_id if comment.startswith(before) and _LAUNCH.fullmatch(launch_id) else None


_TESTED = re.compile(r" to start at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\b", re.ASCII)


def expected_by_test(said: str, zone: tzinfo) -> datetime | None:
    """When ``sbatch --test-only`` says that such a job would start; its times are those of its machine's ``zone``."""
    found = _TESTED.search(said)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[1]).replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        return None


def position(jobs: Mapping[int, Job] | Iterable[Job], job: Job) -> int | None:
    """Its place among those that stand in line in one of its partitions, from 1; None where it does not wait, or is
    held.

    By priority, then by id, as the scheduler looks at them. A job with less priority may still start first where it
    fits into a gap.
    """
    if job.phase is not Phase.WAITING or not job.priority:
        return None
    mine = set(job.partition.split(","))
    before = 0
    for other in jobs.values() if isinstance(jobs, Mapping) else jobs:
        if (-other.priority, other.id) < (-job.priority, job.id) and waits_for_room(other):
            before += not mine.isdisjoint(other.partition.split(","))
    return before + 1


def waits_for_room(job: Job) -> bool:
    """Whether it stands in line: it is not held, and waits for nothing but its turn and for enough to be free."""
    return job.phase is Phase.WAITING and job.priority > 0 and job.reason in WAIT_FOR_ROOM


@dataclass(frozen=True)
class Accounted:
    """What sacct has of one run of a job; each requeue begins another one."""

    id: int
    state: str
    """Without ``by UID`` behind CANCELLED."""
    user: str
    """The uid is left out: 22.05 says 0 there for jobs that were held, until some time after they started."""
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int
    signal: int
    elapsed_s: int
    """Without the time in which it was suspended."""
    suspended_s: int
    cpus: int
    memory_bytes: int | None
    gpus: int
    gpu_types: tuple[tuple[str, int], ...]
    max_rss_bytes: int | None
    """The most that one of its steps used; None: not measured."""
    node: str

    @property
    def phase(self) -> Phase:
        """What its state means."""
        return phase(self.state)


SACCT_FIELDS = (
    "JobIDRaw", "State", "User", "Submit", "Start", "End", "ExitCode", "ElapsedRaw", "Suspended", "AllocTRES", "MaxRSS",
    "NodeList",
)  # fmt: skip
"""No text of a user is among them."""


def parse_runs(text: str) -> dict[int, tuple[Accounted, ...]]:
    """The runs of each job that ``sacct --parsable2 --duplicates`` printed, oldest first. Raises ValueError.

    All but the last ended when the job was requeued (their state is then ``REQUEUED`` or what took their node), or
    are another job's, where a controller that had lost its state gave an id again.
    """
    rows: list[tuple[int, dict[str, str]]] = []
    used: list[int | None] = []
    for line in text.splitlines():
        said = dict(zip(SACCT_FIELDS, line.split("|"), strict=True))
        number, _, step = said["JobIDRaw"].partition(".")
        if not step:
            rows.append((int(number), said))
            used.append(None)
        # What was used is said of steps, which come behind the run that they are of.
        if said["MaxRSS"] and used:
            used[-1] = max(used[-1] or 0, _rss(said["MaxRSS"]))
    runs: dict[int, tuple[Accounted, ...]] = {}
    for (job, said), most in zip(rows, used, strict=True):
        runs[job] = (*runs.get(job, ()), _accounted(job, said, most))
    return runs


def parse_accounted(text: str) -> dict[int, Accounted]:
    """The last run of each job."""
    return {number: runs[-1] for number, runs in parse_runs(text).items()}


def _rss(said: str) -> int:
    # Only here a number without a letter is bytes.
    return int(said) if said.isdigit() else parse_size(said)


def _accounted(number: int, said: Mapping[str, str], used: int | None) -> Accounted:
    tres = parse_tres(said["AllocTRES"])
    code, _, signal = said["ExitCode"].partition(":")
    return Accounted(
        id=number,
        state=said["State"].partition(" ")[0],
        user=said["User"],
        submitted_at=parse_time(said["Submit"]),
        started_at=parse_time(said["Start"]),
        ended_at=parse_time(said["End"]),
        exit_code=int(code),
        signal=int(signal or 0),
        elapsed_s=int(said["ElapsedRaw"] or 0),
        suspended_s=parse_duration(said["Suspended"]) or 0,
        cpus=tres.cpus,
        memory_bytes=tres.memory_bytes,
        gpus=tres.gpus,
        gpu_types=tres.gpu_types,
        max_rss_bytes=used,
        node=text_of(said["NodeList"]).replace("None assigned", ""),
    )
