"""What a server on SLURM is counted for, beside what SLURM's own accounting says: on a real cluster, to the second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import LaunchSpec, LaunchState, Life, Observation, Resources
from daas_hub.core.naming import new_id
from daas_hub.core.slurm_jobs import Accounted
from daas_hub.db.ledger import LaunchRow, Ledger
from tests.contracts.backend import Saved
from tests.contracts.ledger_samples import reservation
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_place import SlurmPlace, slurm_place
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
MIB = 2**20
WHOLE_NODE = {"options": "--exclusive", "runtime": "0-2"}


@pytest.fixture
async def place(slurm_any: Slurm) -> AsyncIterator[SlurmPlace]:
    async with slurm_place(slurm_any, command_timeout_s=5.0) as place:
        yield place


@pytest.fixture
async def place_22(slurm: Slurm) -> AsyncIterator[SlurmPlace]:
    async with slurm_place(slurm, command_timeout_s=5.0) as place:
        yield place


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")


def now() -> datetime:
    return datetime.now(UTC)


class Counted:
    """One launch, with the books kept as the hub keeps them: told by the backend, written into the ledger."""

    def __init__(self, place: SlurmPlace, ledger: Ledger) -> None:
        self.place, self.ledger, self.saved = place, ledger, Saved()
        self.spec: LaunchSpec | None = None
        self.watching: asyncio.Task[Observation] | None = None

    async def begin(self, resources: Resources, slurm: dict[str, str]) -> LaunchRow:
        self.spec = self.place.spec(new_id(), resources=resources, override={"slurm": slurm})
        launch_id = self.spec.launch_id
        asked = reservation(launch_id=launch_id, backend="slurm", charge=resources.charge())
        await asyncio.to_thread(self.ledger.reserve, asked, now=now())
        await asyncio.to_thread(self.ledger.move, launch_id, LaunchState.SUBMITTED, now=now())
        await self.place.backend.start(self.spec, self.saved)
        await asyncio.to_thread(self.ledger.save_handle, launch_id, self.saved.last, now=now())
        await asyncio.to_thread(self.ledger.move, launch_id, LaunchState.RUNNING, now=now())
        self.watching = asyncio.create_task(self.place.backend.wait_ended(self.saved.last, doubt=self.seen))
        return await self.row()

    async def seen(self, told: Observation) -> None:
        if told.grant is not None:
            await asyncio.to_thread(self.ledger.grant, self.id, told.grant, source="slurm", now=now())

    @property
    def id(self) -> str:
        assert self.spec is not None
        return self.spec.launch_id

    async def row(self) -> LaunchRow:
        row = await asyncio.to_thread(self.ledger.get, self.id)
        assert row is not None
        return row

    async def given(self, cores: float) -> LaunchRow:
        async def so() -> bool:
            return (await self.row()).charge.cores == cores

        await until(so, within_s=20, what=f"it counts {cores} cores")
        return await self.row()

    async def ends(self, at: datetime) -> None:
        async def so() -> bool:
            return (await self.row()).ends_at == at

        await until(so, within_s=20, what=f"its end at {at} is known")

    @property
    def job(self) -> str:
        return str(self.saved.last["job_id"])

    async def run(self, *argv: str) -> None:
        await asyncio.to_thread(self.place.cluster.run, *argv)

    async def counting(self, *, runs: bool) -> None:
        """Wait until the watcher has heard whether it runs."""

        async def so() -> bool:
            return (await asyncio.to_thread(self.open)) is runs

        await until(so, within_s=30, what="it is counted" if runs else "it is not counted")

    def open(self) -> bool:
        return bool(
            self.ledger._db.read(
                lambda c: c.exec_driver_sql(
                    f"SELECT count(*) FROM usage WHERE launch_id = '{self.id}' AND to_at IS NULL"
                ).scalar()
            )
        )

    async def stop(self) -> Observation:
        assert self.watching is not None
        await self.place.backend.stop(self.saved.last, within_s=30)
        seen = await asyncio.wait_for(self.watching, 60)
        assert seen.life is Life.ENDED
        await asyncio.to_thread(
            self.ledger.settle, self.id, code=seen.exit_code, reason=seen.reason, evidence="seen", now=now(),
            booked=seen.booked, time_over=seen.time_over,
        )  # fmt: skip
        return seen

    async def accounted(self) -> tuple[Accounted, ...]:
        """What sacct has, once it has the end."""
        found: list[tuple[Accounted, ...]] = []

        async def there() -> bool:
            runs = (await self.place.backend._tools.slurm.runs([int(self.job)])).get(int(self.job), ())
            found[:] = [runs]
            return bool(runs) and runs[-1].ended_at is not None

        await until(there, within_s=60, what="sacct has its end")
        return found[0]

    async def corrected(self) -> int:
        """What the reconciler does about launches that are due; how many rows it took."""
        rows = 0
        for row, _ in await asyncio.to_thread(self.ledger.books_due):
            booked = await self.place.backend.booked(row.handle or {})
            rows += await asyncio.to_thread(self.ledger.book, row.id, booked, now=now())
        return rows

    async def same_as_sacct(self) -> dict[str, int]:
        """Ours and sacct's, to the second."""
        runs = await self.accounted()
        ours = await asyncio.to_thread(self.ledger.counted, self.id)
        assert ours == {
            "server_s": sum(run.elapsed_s for run in runs),
            "core_ms": sum(run.elapsed_s * run.cpus * 1000 for run in runs),
            "memory_byte_s": sum(run.elapsed_s * (run.memory_bytes or 0) for run in runs),
            "gpu_s": sum(run.elapsed_s * run.gpus for run in runs),
        }
        assert await asyncio.to_thread(self.ledger.recount) == []
        return ours


async def test_a_whole_node_where_one_core_was_asked(place: SlurmPlace, ledger: Ledger) -> None:
    """The reservation becomes the allocation; suspended time is not counted; its end is known; all as sacct has it."""
    counted = Counted(place, ledger)
    row = await counted.begin(Resources(cpu_limit=1.0, mem_limit_bytes=512 * MIB), WHOLE_NODE)
    assert (row.charge.cores, row.charge.memory_bytes) == (1.0, 512 * MIB)
    row = await counted.given(8.0)
    job = (await place.backend._tools.watch.jobs(0))[int(counted.job)]
    assert (job.cpus, job.memory_bytes) == (8, row.charge.memory_bytes)
    assert job.started_at is not None
    await counted.ends(job.started_at + timedelta(hours=2))
    await counted.run("scontrol", "update", f"jobid={counted.job}", "timelimit=30")
    await counted.ends(job.started_at + timedelta(minutes=30))
    await counted.run("scontrol", "suspend", counted.job)
    await counted.counting(runs=False)
    assert (await counted.row()).ends_at is None
    began = now()
    await until(lambda: (now() - began).total_seconds() > 3, within_s=10, what="some seconds pass")
    await counted.run("scontrol", "resume", counted.job)
    await counted.counting(runs=True)
    await counted.stop()
    runs = await counted.accounted()
    await counted.corrected()
    assert runs[-1].suspended_s >= 3
    await counted.same_as_sacct()
    assert await counted.corrected() == 0
    ledger.close()


async def test_a_requeued_job_is_not_counted_while_it_waits(place: SlurmPlace, ledger: Ledger) -> None:
    """It runs again elsewhere, with what it gets there; between the two runs nothing counts. Here sacct knows both."""
    counted = Counted(place, ledger)
    await counted.begin(Resources(cpu_limit=2.0, mem_limit_bytes=512 * MIB), {})
    await counted.given(2.0)
    await counted.run("scontrol", "requeue", counted.job)
    await counted.counting(runs=False)
    assert (await counted.row()).charge.cores == 2.0, "it keeps its reservation"
    # SLURM lets a requeued job wait for two minutes; an operator need not.
    words = ("nodelist=gpu1", "partition=any", "numcpus=4", "starttime=now")
    await counted.run("scontrol", "update", f"jobid={counted.job}", *words)
    await until(lambda: len(place.reports) == 2, within_s=60, what="it has reported again")
    await counted.given(4.0)
    await counted.counting(runs=True)
    await counted.stop()
    first, second = await counted.accounted()
    await counted.corrected()
    assert (first.cpus, second.cpus, second.node) == (2, 4, "gpu1")
    await counted.same_as_sacct()
    ledger.close()


@pytest.mark.needs("root", "slurm")
async def test_accounting_that_is_away_at_the_end_corrects_later(place_22: SlurmPlace, ledger: Ledger) -> None:
    """Until then the job's own times count; a GPU counts like everything else."""
    place = place_22
    counted = Counted(place, ledger)
    resources = Resources(cpu_limit=1.0, mem_limit_bytes=256 * MIB, gpus=1)
    await counted.begin(resources, {"partition": "gpu"})
    job = (await place.backend._tools.watch.jobs(0))[int(counted.job)]
    began = job.started_at or now()
    await until(lambda: now() - began > timedelta(seconds=2), within_s=10, what="there is something to count")
    database = place.cluster.without_database()
    await asyncio.to_thread(database.__enter__)
    try:
        seen = await counted.stop()
        assert seen.booked is not None
        assert (seen.booked.source, seen.booked.final, len(seen.booked.runs)) == ("squeue", False, 1)
        by_job = await asyncio.to_thread(ledger.counted, counted.id)
        assert by_job["server_s"] == seen.booked.runs[0].counted_s
        assert by_job["gpu_s"] == by_job["server_s"]
        with pytest.raises(BackendUnavailable):
            await counted.corrected()
        assert [row.id for row, _ in await asyncio.to_thread(ledger.books_due)] == [counted.id]
    finally:
        await asyncio.to_thread(database.__exit__, None, None, None)
    await counted.accounted()
    await counted.corrected()
    assert await asyncio.to_thread(ledger.books_due) == []
    assert (await counted.same_as_sacct())["gpu_s"] == by_job["gpu_s"]
    ledger.close()
