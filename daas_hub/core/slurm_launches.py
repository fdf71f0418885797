"""Which of a cluster's jobs is a launch's, and what is known of a launch by it. Pure (design.md §4.3).

Whoever can submit can write any comment, so a comment alone proves nothing: a job is a launch's if it is its account's
*and* has the recorded id. Without a recorded id (a crash between submission and saving) account, comment and time of
submission must fit exactly one job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from .models import Handle, Json, LaunchSpec, Life, Observation
from .slurm_books import booked, grant_of
from .slurm_jobs import Accounted, Job, Phase, launch_of
from .slurm_words import state_in_words
from .units import format_duration

VERSION = 1
YOUNG = timedelta(minutes=5)
"""So long a job that the controller does not know may be one that it forgot when it was killed: it saves each change
seconds later only, and by default keeps what has ended for as long (MinJobAge, slurm.conf(5))."""
CLOCKS = timedelta(seconds=5)
"""By how much the hub's clock and the controller's may differ."""
CONFIGURING = "CONFIGURING"
"""The state in which nodes are being switched on, or prepared: the job has them, and nothing of it runs yet."""
SUBMITTING = timedelta(seconds=90)
"""A submission is over by then, well or not: nobody waits longer for it."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A launch on the cluster, as its handle has it."""

    launch_id: str
    hub_id: str
    name: str
    uid: int
    gid: int
    home: str
    service_prefix: str
    tls: bool
    asked_at: datetime
    """When its submission began, by the hub's clock."""
    job_id: int | None = None
    port: int | None = None
    """Where the server listens, as it reported itself."""
    port_of: float | None = None
    """When the run of the job began that reported it, in seconds since 1970; None: not known."""
    node: str = ""
    memory_bytes: int | None = None
    program: str = ""
    site_tokens: bool = False
    """Whether it has a place for tokens of other services."""
    named: bool = False
    """Whether its certificate has the launch's own name (``core/launch_names.py``)."""

    def handle(self) -> Handle:
        """What is saved."""
        return {
            "backend": "slurm",
            "version": VERSION,
            "launch_id": self.launch_id,
            "hub_id": self.hub_id,
            "name": self.name,
            "uid": self.uid,
            "gid": self.gid,
            "home": self.home,
            "service_prefix": self.service_prefix,
            "tls": self.tls,
            "asked_at": self.asked_at.timestamp(),
            "job_id": self.job_id,
            "port": self.port,
            "port_of": self.port_of,
            "node": self.node,
            "memory_bytes": self.memory_bytes,
            "program": self.program,
            "named": self.named,
            "site_tokens": self.site_tokens,
            "warnings": [],
        }


def first_ref(spec: LaunchSpec, now: datetime, *, named: bool = False) -> Ref:
    """A launch before its submission. ``named``: certificates have names of launches."""
    account = spec.account
    return Ref(
        launch_id=spec.launch_id,
        hub_id=spec.hub_id,
        name=account.name,
        uid=account.uid,
        gid=account.gid,
        home=account.home,
        service_prefix=spec.service_prefix,
        tls=bool(spec.certificates),
        asked_at=now,
        memory_bytes=spec.resources.mem_limit_bytes,
        program=spec.cmd[0],
        site_tokens=spec.site_tokens,
        named=named and bool(spec.certificates),
    )


def ref_of(handle: Handle) -> Ref:
    """The launch that a handle names. Raises ValueError where it is none of ours, in a form that we know."""
    if handle.get("backend") != "slurm" or handle.get("version") != VERSION:
        raise ValueError(f"not a handle of this version of the SLURM backend: {handle.get('version')!r}")
    try:
        return Ref(
            launch_id=str(handle["launch_id"]),
            hub_id=str(handle["hub_id"]),
            name=str(handle["name"]),
            uid=int(handle["uid"]),
            gid=int(handle["gid"]),
            home=str(handle["home"]),
            service_prefix=str(handle["service_prefix"]),
            tls=bool(handle["tls"]),
            asked_at=datetime.fromtimestamp(float(handle["asked_at"]), UTC),
            job_id=_maybe(handle, "job_id"),
            port=_maybe(handle, "port"),
            port_of=None if handle.get("port_of") is None else float(handle["port_of"]),
            node=str(handle.get("node") or ""),
            memory_bytes=_maybe(handle, "memory_bytes"),
            program=str(handle.get("program") or ""),
            site_tokens=bool(handle.get("site_tokens")),
            named=bool(handle.get("named")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the handle lacks or spoils {error}") from error


class Handles:
    """The launches that handles name, each handle read once: the same ones come in every sweep."""

    MOST = 20_000

    def __init__(self) -> None:
        self._known: dict[str, tuple[Handle, Ref]] = {}
        self.read = 0
        """How many were read so far."""

    def ref(self, handle: Handle) -> Ref:
        """As ``ref_of``; one in which anything is different is another one. Raises ValueError, TypeError."""
        launch_id = str(handle.get("launch_id"))
        had = self._known.get(launch_id)
        if had is not None and had[0] == handle:
            return had[1]
        if len(self._known) >= self.MOST:
            self._known.clear()
        self.read += 1
        ref = ref_of(handle)
        self._known[launch_id] = dict(handle), ref
        return ref


def _maybe(handle: Json, key: str) -> int | None:
    value = handle.get(key)
    return None if value is None else int(value)


class Ambiguous(Exception):
    """Raised where several jobs could be one launch's, and nothing recorded tells which."""


def find_job(jobs: Mapping[int, Job], ref: Ref) -> Job | None:
    """The launch's job among all of the cluster. Raises Ambiguous."""
    if ref.job_id is not None:
        job = jobs.get(ref.job_id)
        return job if job is not None and is_recorded(job, ref) else None
    like = [job for job in jobs.values() if _fits(job, ref)]
    if len(like) > 1:
        raise Ambiguous(f"jobs {', '.join(str(job.id) for job in like)} of {ref.name} have the launch's comment")
    return like[0] if like else None


def is_recorded(job: Job, ref: Ref) -> bool:
    """Whether the job of the recorded id is the launch's: another account's, or an older one's of hers, is not.

    A controller that has lost its state gives ids again.
    """
    named = launch_of(job.comment, ref.hub_id)
    return job.uid == ref.uid and (named == ref.launch_id or _in_time(job, ref) or (_came_back(job, ref) and not named))


def _came_back(job: Job, ref: Ref) -> bool:
    """Whether it may have been submitted in time: with each requeue SLURM sets that time anew. Its owner, or the site's
    own programs, may have changed its comment."""
    return job.restarts > 0 and job.submitted_at > ref.asked_at


def _fits(job: Job, ref: Ref) -> bool:
    mine = job.uid == ref.uid and launch_of(job.comment, ref.hub_id) == ref.launch_id
    return mine and job.submitted_at >= ref.asked_at - CLOCKS


def _in_time(job: Job, ref: Ref) -> bool:
    """Whether it was submitted when the launch was: its owner may have changed its comment since."""
    return ref.asked_at - CLOCKS <= job.submitted_at <= ref.asked_at + SUBMITTING


def forged(jobs: Iterable[Job], refs: Mapping[str, Ref], hub_id: str) -> list[Job]:
    """Jobs that say of themselves that they are launches of this hub's, and are not: for the audit."""
    found = []
    for job in jobs:
        launch_id = launch_of(job.comment, hub_id)
        if launch_id is None or job.phase is Phase.ENDED:
            continue
        ref = refs.get(launch_id)
        if ref is None or job.uid != ref.uid or (ref.job_id is not None and job.id != ref.job_id):
            found.append(job)
    return found


# ---------------------------------------------------------------- what is known


def observation(job: Job, runs: Sequence[Accounted] = ()) -> Observation:
    """What a job in the cluster's own list says. A job that waits again (requeued) has not ended.

    ``runs``: what accounting has of it, where it has ended.
    """
    now = job.phase
    if now is Phase.UNKNOWN:
        return Observation(Life.UNKNOWN, reason=f"SLURM says {job.state!r} of its job, which this hub does not know")
    if now is not Phase.ENDED:
        reason = "" if job.state == "RUNNING" else _fragment(state_in_words(job.state))
        return Observation(Life.RUNNING, reason=reason, grant=grant_of(job))
    return ended(job.state, job, runs)


def ended(state: str, job: Job | None, runs: Sequence[Accounted]) -> Observation:
    """An end, with its exit status where accounting knows it."""
    reason, time_over = _fragment(state_in_words(state)), state == "TIMEOUT"
    if time_over:
        time = f"time of {format_duration(job.limit_s)}" if job is not None and job.limit_s else "time"
        reason = f"its {time} on SLURM was over"
    account = booked(job, runs)
    if not runs:
        return Observation(Life.ENDED, reason=reason, booked=account, time_over=time_over)
    accounted = runs[-1]
    code = accounted.exit_code if not accounted.signal else 128 + accounted.signal
    if state == "FAILED" and accounted.signal:
        reason = f"{reason}: it was ended by signal {accounted.signal}"
    elif state == "FAILED":
        reason = f"{reason} with exit status {accounted.exit_code}"
    return Observation(Life.ENDED, code, reason, booked=account, time_over=time_over)


def _fragment(sentence: str) -> str:
    """As a part of another sentence."""
    return f"{sentence[:1].lower()}{sentence[1:]}".rstrip(".")


def own_runs(ref: Ref, runs: Iterable[Accounted]) -> tuple[Accounted, ...]:
    """Those of the launch: a controller that has lost its state gives ids again."""
    first = ref.asked_at - CLOCKS
    return tuple(one for one in runs if one.user == ref.name and (one.submitted_at or first) >= first)


def missing(ref: Ref, runs: Sequence[Accounted], *, answers: bool, now: datetime) -> Observation:
    """The controller has said "Invalid job id"; ``runs``: what accounting has of the launch.

    A controller that was killed forgets what it had not yet saved, while the job goes on.
    """
    accounted = runs[-1] if runs else None
    if accounted is not None and accounted.phase is Phase.ENDED:
        return ended(accounted.state, None, runs)
    if answers:
        return Observation(Life.RUNNING, reason="SLURM does not know its job, but the server answers")
    if accounted is not None:
        return Observation(
            Life.UNKNOWN,
            reason=f"the controller does not know job {ref.job_id}, which accounting calls {accounted.state}",
        )
    if now - ref.asked_at < YOUNG:
        return Observation(Life.UNKNOWN, reason=f"the controller does not know job {ref.job_id}, which is young")
    return Observation(Life.ENDED, reason="SLURM does not know its job any more", booked=booked(None, ()))


def never_submitted(ref: Ref, *, over: bool, now: datetime) -> Observation:
    """No job has the launch's comment. ``over``: whoever submitted it has come to an end, well or not."""
    if over or now - ref.asked_at > SUBMITTING:
        return Observation(Life.ENDED, reason="its job was never submitted")
    return Observation(Life.UNKNOWN, reason="its job is being submitted")


def takes_report(ref: Ref, job: Job | None) -> bool | None:
    """Whether a port is taken from the server: once for each time that its job runs (a requeued one runs again).

    None: it cannot be told yet, because the job is not seen to run. A job that SLURM has forgotten may run all the
    same: its first port is taken.
    """
    began = run_of(job)
    if began is None:
        return True if job is None and ref.port is None else None
    return ref.port is None or ref.port_of is None or began > ref.port_of


def run_of(job: Job | None) -> float | None:
    """When the job's present run began, in seconds since 1970; None while it does not run."""
    if job is None or job.started_at is None or job.phase not in (Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING):
        return None
    return job.started_at.timestamp()


def has_begun(job: Job) -> bool:
    """Whether its script runs, so that its server may be expected to answer. Nodes may take many minutes to boot."""
    return run_of(job) is not None and job.phase is Phase.RUNNING and job.state != CONFIGURING


def with_port(ref: Ref, port: int, job: Job | None) -> Ref:
    """The launch with what its server reported."""
    return replace(ref, port=port, port_of=run_of(job), node=job.host if job is not None and job.host else ref.node)
