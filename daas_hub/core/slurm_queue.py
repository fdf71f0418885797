"""What squeue prints of all jobs, and the jobs in it.

Comments, and in rare cases reasons, are text that a user wrote. So each of them ends with a mark that nobody could know
before the question was asked: whatever the text holds, it cannot become another field or another job. The other fields
are numbers, times, and names that an administrator gave. What stands between them is one reader's own and shorter: with
the whole mark behind each field a list of a thousand jobs would be twice as long, and no line would be as it was in
the list before. A name that had it would make the list one that cannot be read.
"""

from __future__ import annotations

from .slurm_jobs import PHASES, Job, Phase, parse_duration, parse_time, parse_tres, text_of

CHANGES = "TimeUsed"
"""It is another one in each look, and nobody asks for it before the end: else no line would be as it was."""
NAMES = (
    "JobID", "State", "UserID", "UserName", "Partition", "BatchHost", "SubmitTime", "StartTime", "EndTime", "TimeLimit",
    "PriorityLong", "tres-alloc", "RestartCnt",
)  # fmt: skip
TEXTS = ("Reason", "Comment")
FIELDS = (CHANGES, *NAMES, *TEXTS)
"""squeue's names (``--Format``) of what a Job is made of, in their order. Each is asked for all jobs every 2 s: nothing
is here that nobody looks at."""
OVER = (Phase.ENDING, Phase.ENDED)
Key = tuple[str, str, str]


class JobReader:
    """Reads one list after another. A line that says what it said in the list before is the same job, not read again:
    of a thousand servers that run, hardly one changes between two looks."""

    def __init__(self, between: str) -> None:
        """``between``: what ends a field in which no user wrote; nobody but this process may know it."""
        self._between = between
        self._known: dict[Key, tuple[str, Job]] = {}
        self.read = 0
        """How many lines were read so far, those that were known not counted."""

    def format(self, mark: str) -> str:
        """What ``SQUEUE_FORMAT2`` must be: each field whole (width 0), with its end marked."""
        ends = [f"{mark}|", *[self._between] * (len(NAMES) - 1), *[f"{mark}|"] * len(TEXTS), f"{mark}."]
        return ",".join(f"{name}:0{end}" for name, end in zip(FIELDS, ends, strict=True))

    def jobs(self, text: str, mark: str) -> dict[int, Job]:
        """The jobs that squeue printed in that format. Raises ValueError for what is not whole, so nothing is lost."""
        *records, rest = text.split(f"{mark}.\n")
        if rest:
            raise ValueError(f"The list of jobs ends in the middle of one: {rest[:200]!r}")
        known, now, end = self._known, {}, f"{mark}|"
        for record in records:
            parts = record.split(end)
            if len(parts) != 2 + len(TEXTS):
                raise ValueError(f"A job has {len(parts)} parts, not {2 + len(TEXTS)}: {record[:200]!r}")
            elapsed, *saying = parts
            key: Key = tuple(saying)  # type: ignore[assignment]
            had = known.get(key)
            if had is None or (had[0] != elapsed and had[1].phase in OVER):
                self.read += 1
                had = elapsed, _job(elapsed, key, self._between)
            now[key] = had
        self._known = now
        return {job.id: job for _, job in now.values()}

    def only(self, text: str, mark: str) -> dict[int, Job]:
        """The same of a list that has not all jobs: what is known of all stays known."""
        return JobReader(self._between).jobs(text, mark)


def _job(elapsed: str, saying: Key, between: str) -> Job:
    names, reason, comment = saying
    fields = names.split(between)
    if len(fields) != len(NAMES):
        raise ValueError(f"A job has {len(fields)} fields, not {len(NAMES)}: {names[:200]!r}")
    # By place: this is done for each new job of the cluster.
    number, state, uid, user, partition, host, submitted, start, end, limit, priority, *more = fields
    allocated, restarts = more
    submitted_at, start_at = parse_time(submitted), parse_time(start)
    if submitted_at is None:
        raise ValueError(f"Job {number} has no time of submission: {submitted!r}")
    now, limit_s = PHASES.get(state), parse_duration(limit)
    waits, over = now is Phase.WAITING, now in OVER
    # What SLURM tells of a job without a walltime is a year away, and of one that is suspended what was once planned.
    ends = over or (now is Phase.RUNNING and limit_s is not None)
    tres = parse_tres(allocated)
    return Job(
        id=int(number),
        state=state,
        uid=int(uid),
        user=user,
        partition=text_of(partition),
        host="" if waits else text_of(host),
        submitted_at=submitted_at,
        started_at=None if waits else start_at,
        expected_at=start_at if waits else None,
        limit_s=limit_s,
        elapsed_s=(parse_duration(elapsed) or 0) if over else 0,
        priority=int(priority),
        reason=text_of(reason),
        cpus=tres.cpus,
        memory_bytes=tres.memory_bytes,
        gpus=tres.gpus,
        gpu_types=tres.gpu_types,
        restarts=int(restarts),
        comment="" if comment == "(null)" else comment,
        ends_at=parse_time(end) if ends else None,
    )
