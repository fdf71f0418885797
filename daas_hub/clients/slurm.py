"""The cluster, asked by SLURM's own programs (squeue, sacct): one process for each question.

Whatever is not a whole and certain answer raises BackendUnavailable. Its reasons: ``refused``, ``timeout``, ``reset``,
``dns``, ``munge``, ``no_configuration``, ``not_installed``, ``answer`` (cannot be read), and ``backend_unavailable``
where the program said something else.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from daas_hub.core.slurm_cluster import (
    ASSOCIATION_FIELDS,
    Association,
    Partition,
    Reservation,
    admin_level,
    hides_jobs,
    parse_accounts,
    parse_associations,
    parse_nodes,
    parse_partitions,
    parse_reservations,
    parse_settings,
    sinfo_format,
)
from daas_hub.core.slurm_host import controllers_time
from daas_hub.core.slurm_jobs import (
    SACCT_FIELDS,
    Accounted,
    Job,
    parse_accounted,
    parse_runs,
)
from daas_hub.core.slurm_queue import JobReader
from daas_hub.core.slurm_times import QOS_FIELDS, Qos, parse_qos

from .slurm_run import Ran, run, unavailable
from .slurm_said import no_such_job, reason_of

T = TypeVar("T")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@$-]*", re.ASCII)
IN_LOOP_CHARACTERS = 250_000
"""A longer answer, of more than a thousand jobs, is read in a thread: new to us it would hold up the loop for 10 ms."""
BETWEEN = 9
"""So many characters of a mark are enough between fields in which no user wrote."""
LISTS_MEAN_TREES = [23, 2]
"""From this version on a partition's list of accounts means those below them, too."""
SQUEUE = ("squeue", "--all", "--local", "--noheader", "--noconvert", "--states=all")


class Slurm:
    """Programs on this machine, or behind ``prefix``, which must hand on its environment."""

    def __init__(self, *, prefix: Sequence[str] = (), within_s: float = 10, conf: str = "") -> None:
        """``prefix``: words before each program. ``within_s``: seconds that each one may take. ``conf``: SLURM_CONF."""
        self._prefix, self._within_s, self._cluster = tuple(prefix), within_s, ""
        self._reader = JobReader(_mark()[:BETWEEN])
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
        ran = await self._ran(*SQUEUE, SQUEUE_FORMAT2=self._reader.format(mark))
        if len(ran.out) > IN_LOOP_CHARACTERS:
            return await asyncio.to_thread(_read, "squeue", ran, lambda out: self._reader.jobs(out, mark))
        return _read("squeue", ran, lambda out: self._reader.jobs(out, mark))

    async def job(self, job_id: int) -> Job | None:
        """One job; None only where the controller says that it knows no such job, and says nothing else."""
        mark = _mark()
        ran = await self._ran(*SQUEUE, f"--jobs={job_id}", SQUEUE_FORMAT2=self._reader.format(mark))
        if ran.code == 1 and not ran.out and no_such_job(ran.err):
            return None
        found = _read("squeue", ran, lambda out: self._reader.only(out, mark))
        if job_id not in found:
            raise unavailable("squeue", ran, "answer")
        return found[job_id]

    async def accounted(self, job_ids: Sequence[int]) -> Mapping[int, Accounted]:
        """What the accounting has of these jobs. One that is missing is not known there (yet): it tells nothing."""
        return _read("sacct", await self._sacct(job_ids), parse_accounted) if job_ids else {}

    async def runs(self, job_ids: Sequence[int]) -> Mapping[int, tuple[Accounted, ...]]:
        """The same with all runs of jobs that were requeued, oldest first."""
        return _read("sacct", await self._sacct(job_ids, "--duplicates"), parse_runs) if job_ids else {}

    async def _sacct(self, job_ids: Sequence[int], *more: str) -> Ran:
        words = ["--allusers", "--noheader", "--parsable2", "--noconvert", f"--format={','.join(SACCT_FIELDS)}"]
        return await self._ran("sacct", *words, *more, f"--jobs={','.join(map(str, job_ids))}")

    async def expected_starts(self) -> Mapping[int, datetime]:
        """When the scheduler expects waiting jobs to start, of those for which it has planned so far."""
        jobs = await self.jobs()
        return {job.id: job.expected_at for job in jobs.values() if job.expected_at is not None}

    async def partitions(self) -> Sequence[Partition]:
        """All partitions, hidden ones too, with the state of their nodes: two questions, asked together."""
        nodes, told = await asyncio.gather(
            self._ran("sinfo", "--all", "--local", "--Node", "--noheader", "--noconvert", f"--Format={sinfo_format()}"),
            self._ran("scontrol", "--all", "--oneliner", "show", "partition"),
        )
        by_partition = _read("sinfo", nodes, parse_nodes)
        return _read("scontrol", told, lambda out: parse_partitions(out, by_partition))

    async def reservations(self) -> Sequence[Reservation]:
        """All reservations of nodes."""
        return _read(
            "scontrol", await self._ran("scontrol", "--all", "--oneliner", "show", "reservation"), parse_reservations
        )

    async def associations(self, user: str) -> Sequence[Association]:
        """The ways in which a user may submit here; none for somebody whom the accounting does not know."""
        return parse_associations(await self._associations(user), await self._name())

    async def qos(self) -> Mapping[str, Qos]:
        """All QOS by name, with how they bound a walltime."""
        words = ["--noheader", "--parsable2", "--readonly", "show", "qos", f"format={','.join(QOS_FIELDS)}"]
        return _read("sacctmgr", await self._ran("sacctmgr", *words), parse_qos)

    async def accounts_above(self) -> Mapping[str, frozenset[str]]:
        """SLURM account → those above it, where the cluster lets a partition's list of accounts mean these, too (23.02
        and later); nothing on an older one."""
        version = (await self.settings()).get("SLURM_VERSION", "").split(".")
        if [int(part) for part in version[:2] if part.isdecimal()] < LISTS_MEAN_TREES:
            return {}
        words = ["--noheader", "--parsable2", "--readonly", "show", "associations", f"cluster={await self._name()}"]
        ran = await self._ran("sacctmgr", *words, "user=", "format=Account,ParentName")
        return _read("sacctmgr", ran, parse_accounts)

    async def _name(self) -> str:
        if not self._cluster:
            # Several clusters may share one accounting. The name of this one never changes.
            self._cluster = (await self.settings())["ClusterName"]
        return self._cluster

    async def settings(self) -> Mapping[str, str]:
        """The cluster's settings as its controller has them now (``scontrol show config``)."""
        return _read("scontrol", await self._ran("scontrol", "show", "config"), parse_settings)

    async def controllers_time(self) -> datetime:
        """The clock of the controller that answers, in whole seconds."""
        return _read("scontrol", await self._ran("scontrol", "show", "config"), controllers_time)

    async def version(self) -> str:
        """What sbatch says of itself on this host, for example ``slurm-wlm 22.05.8``."""
        return _read("sbatch", await self._ran("sbatch", "--version"), str.strip)

    async def sees_all_jobs(self, user: str) -> bool:
        """Whether this user, as whom these programs run, is shown everybody's jobs. To one who is not, jobs that run
        do not exist: a hub of his must not be believed."""
        settings = await self.settings()
        if not hides_jobs(settings) or user in {"root", settings.get("SlurmUser", "").partition("(")[0]}:
            return True
        return admin_level(await self._associations(user)) in {"Operator", "Administrator"}

    async def _associations(self, user: str) -> str:
        if not _USER.fullmatch(user):
            # A comma or an equals sign would ask for others.
            return ""
        words = ["--noheader", "--parsable2", "--readonly", "show", "user", f"name={user}", "withassoc"]
        ran = await self._ran("sacctmgr", *words, f"format={','.join(ASSOCIATION_FIELDS)}")
        return _read("sacctmgr", ran, str)

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
    except (ValueError, OverflowError) as error:
        raise unavailable(program, Ran(ran.code, "", str(error)), "answer") from error
