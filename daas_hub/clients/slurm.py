"""The cluster, asked by SLURM's own programs (squeue, sacct): one process for each question.

Whatever is not a whole and certain answer raises BackendUnavailable. Its reasons: ``refused``, ``timeout``, ``reset``,
``dns``, ``munge``, ``no_configuration``, ``not_installed``, ``answer`` (cannot be read), and ``backend_unavailable``
where the program said something else.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from daas_hub.core.slurm_jobs import SACCT_FIELDS, Accounted, Job, parse_accounted, parse_jobs, squeue_format

from .slurm_run import Ran, run, unavailable
from .slurm_said import no_such_job, reason_of

T = TypeVar("T")
SQUEUE = ("squeue", "--all", "--local", "--noheader", "--noconvert", "--states=all")


class Slurm:
    """Programs on this machine, or behind ``prefix``, which must hand on its environment."""

    def __init__(self, *, prefix: Sequence[str] = (), within_s: float = 10, conf: str = "") -> None:
        """``prefix``: words before each program. ``within_s``: seconds that each one may take. ``conf``: SLURM_CONF."""
        self._prefix, self._within_s = tuple(prefix), within_s
        # Nothing of the hub's own environment but where programs are: SQUEUE_* and the like would change answers.
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "TZ": "UTC",
            "SLURM_TIME_FORMAT": "%s",
            **({"SLURM_CONF": conf} if conf else {}),
        }

    async def jobs(self) -> Mapping[int, Job]:
        """All jobs of the cluster that the controller still knows, ended ones too: one process, one question."""
        mark = _mark()
        ran = await self._ran(*SQUEUE, SQUEUE_FORMAT2=squeue_format(mark))
        return _read("squeue", ran, lambda out: parse_jobs(out, mark))

    async def job(self, job_id: int) -> Job | None:
        """One job; None only where the controller says that it knows no such job, and says nothing else."""
        mark = _mark()
        ran = await self._ran(*SQUEUE, f"--jobs={job_id}", SQUEUE_FORMAT2=squeue_format(mark))
        if ran.code == 1 and not ran.out and no_such_job(ran.err):
            return None
        found = _read("squeue", ran, lambda out: parse_jobs(out, mark))
        if job_id not in found:
            raise unavailable("squeue", ran, "answer")
        return found[job_id]

    async def accounted(self, job_ids: Sequence[int]) -> Mapping[int, Accounted]:
        """What the accounting has of these jobs. One that is missing is not known there (yet): it tells nothing."""
        if not job_ids:
            return {}
        words = ["--noheader", "--parsable2", "--noconvert", f"--format={','.join(SACCT_FIELDS)}"]
        ran = await self._ran("sacct", *words, f"--jobs={','.join(map(str, job_ids))}", "--allusers")
        return _read("sacct", ran, parse_accounted)

    async def expected_starts(self) -> Mapping[int, datetime]:
        """When the scheduler expects waiting jobs to start, of those for which it has planned so far."""
        jobs = await self.jobs()
        return {job.id: job.expected_at for job in jobs.values() if job.expected_at is not None}

    async def _ran(self, program: str, *words: str, **environment: str) -> Ran:
        try:
            return await run(
                [*self._prefix, program, *words], {**self._environment, **environment}, within_s=self._within_s
            )
        except OSError as error:
            raise unavailable(program, Ran(None, "", str(error)), "not_installed") from error


def _mark() -> str:
    # It goes by the environment, which only the same account can read: other users see arguments.
    return f"\x1f{secrets.token_hex(8)}"


def _read(program: str, ran: Ran, parse: Callable[[str], T]) -> T:
    """What it printed, where it ended well. Some complain of a line of slurm.conf before each good answer; but where
    the complaint is an outage, or is all that was said, it is no answer."""
    if ran.code != 0 or reason_of(ran.err, ran.code) or (ran.err.strip() and not ran.out.strip()):
        raise unavailable(program, ran)
    try:
        return parse(ran.out)
    except ValueError as error:
        raise unavailable(program, Ran(ran.code, "", str(error)), "answer") from error
