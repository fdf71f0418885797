"""Servers on SLURM while the cluster cannot be asked, is lied about, forgets, or runs a job again: nothing is lost."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Handle, LaunchSpec, Life, Observation
from daas_hub.core.naming import new_id
from daas_hub.core.slurm_jobs import comment_of
from daas_hub.core.slurm_launches import ref_of
from daas_hub.db.ledger import Ledger
from daas_hub.services.reconciler import Reconciler
from daas_hub.services.settings import Environment
from tests.contracts.backend import Saved, ours
from tests.servers.slurm import misled
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_place import SlurmPlace, slurm_place
from tests.waiting import LONG, until

pytestmark = pytest.mark.timeout(180)

Outage = Callable[[Slurm], AbstractContextManager[None]]
OUTAGES: dict[str, Outage] = {
    "refused": lambda slurm: slurm.refused(),
    "timeout": lambda slurm: slurm.silent(),
    "reset": lambda slurm: misled.reset(slurm.world),
    "dns": lambda slurm: misled.unresolved(slurm.world),
    "no_configuration": lambda slurm: misled.without_settings(slurm.world),
    # The last one: after it nodes do not answer the controllers for minutes, and get no jobs meanwhile.
    "munge": lambda slurm: slurm.without_munge(),
}


@pytest.fixture
async def place(slurm_any: Slurm) -> AsyncIterator[SlurmPlace]:
    async with slurm_place(slurm_any, command_timeout_s=5.0) as place:
        yield place


async def begun(place: SlurmPlace, saved: Saved) -> tuple[str, str]:
    """One server of ada's: its launch and URL."""
    spec = place.spec(new_id())
    await place.backend.prepare(spec)
    return spec.launch_id, await place.backend.start(spec, saved)


EVERY = tuple(OUTAGES) if LONG else ("refused", "reset", "no_configuration")
"""In every run one of each kind: nobody listens, nobody lets one finish, nobody can be found."""


async def cannot_tell(backend: SlurmBackend, handle: Handle) -> None:
    """It neither forgets a server that it cannot ask about, nor says that it was stopped."""

    async def unknown() -> bool:
        # An answer of a moment before still counts for as long as it is young.
        return (await backend.inspect(handle)).life is Life.UNKNOWN

    await until(unknown, within_s=20, what="it cannot be told")
    found, stopped = await asyncio.gather(backend.find(), backend.stop(handle, within_s=2), return_exceptions=True)
    assert isinstance(found, BackendUnavailable)
    assert isinstance(stopped, Observation)
    assert stopped.life is Life.UNKNOWN


async def tells(backend: SlurmBackend, handle: Handle) -> bool:
    """Whether it can say something."""
    return (await backend.inspect(handle)).life is not Life.UNKNOWN


async def test_a_crash_between_submission_and_saving_loses_nothing(place: SlurmPlace) -> None:
    """The hub knows what it was about to submit, and finds the one job that it can be."""
    saved = Saved()
    launch_id, _ = await begun(place, saved)
    before = saved.handles[0]
    assert before["job_id"] is None
    # What a crash would have left: the record and the handle of before.
    records = place.backend._tools.records
    await asyncio.to_thread(records.save, ref_of(before))
    other = place.another()
    assert (await other.inspect(before)).life is Life.RUNNING
    (found,) = await ours(other, launch_id)
    assert found["job_id"] == saved.last["job_id"]
    # Her second job with that comment makes it a guess: neither is believed, and neither is cancelled.
    second = await asyncio.to_thread(
        place.cluster.submit, "sleep 600", f"--comment={comment_of(place.traits['hub_id'], launch_id)}"
    )
    await until(lambda: ambiguous(other, before), within_s=20, what="two jobs could be it")
    assert await ours(other, launch_id) == []
    assert (await other.stop(before, within_s=3)).life is Life.UNKNOWN
    await asyncio.to_thread(place.cluster.run, "scancel", second)
    await asyncio.to_thread(place.cluster.in_state, second, "CANCELLED")
    assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED


async def ambiguous(backend: SlurmBackend, handle: Handle) -> bool:
    seen = await backend.inspect(handle)
    return seen.life is Life.UNKNOWN and "have the launch's comment" in seen.reason


async def audited(place: SlurmPlace, liars: list[str], folder: Path) -> None:
    """One row for each job, whichever reconciler looks, and however often."""
    url = f"sqlite:///{folder}/ledger.sqlite"
    ledger = await asyncio.to_thread(Ledger.open, url)
    backend = {"DaasHub": {"backends": {"slurm": "daas_hub.backends.slurm.SlurmBackend"}}}
    traits = {name: value for name, value in place.traits.items() if name != "hub_id"}
    sections = {**backend, "SlurmBackend": traits, "Reconciler": {"every_s": 1}}
    environment = Environment(
        "http://127.0.0.1:1/hub/api", "none", url, hub_id=place.traits["hub_id"], boot_id=new_id(), config=sections
    )

    def rows() -> list[tuple[str, str, int]]:
        found = [(row.who, row.action, row.new or {}) for row in ledger.audit.list()]
        return sorted((who, action, new["job"]) for who, action, new in found)

    wanted = sorted(("reconciler", "refuse_job", int(job)) for job in liars)
    for reconciler in (Reconciler(environment, ledger=ledger), Reconciler(environment, ledger=ledger)):
        running = asyncio.create_task(reconciler.run())
        try:
            await until(lambda one=reconciler: len(one._accused) == len(liars), within_s=60, what="both are known")
            assert await asyncio.to_thread(rows) == wanted
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await reconciler.backend("slurm").close()


async def test_a_forged_comment_is_refused_and_told(
    place: SlurmPlace, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Bob's job says that it is ada's launch, and a launch that there never was."""
    saved = Saved()
    launch_id, _ = await begun(place, saved)
    liars = [
        await asyncio.to_thread(place.cluster.submit, "sleep 600", f"--comment={comment}", user="bob")
        for comment in (
            comment_of(place.traits["hub_id"], launch_id),
            comment_of(place.traits["hub_id"], "0123456789abcdef0123456789abcdef"),
        )
    ]
    try:
        listed = [*map(int, liars)]
        await until(lambda: are_listed(place, listed), within_s=20, what="the cluster lists them")
        (found,) = await ours(place.backend, launch_id)
        assert found["job_id"] == saved.last["job_id"]
        # Once each, however often it is looked.
        await place.backend.find()
        said = [record.message for record in caplog.records if "says that it is a launch of this hub" in record.message]
        assert sorted(line.split()[1] for line in said) == sorted(liars)
        # Hers ends; his, which bears its name, keeps nothing alive.
        assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED
        assert (await place.backend.inspect(saved.last)).life is Life.ENDED
        assert await ours(place.backend, launch_id) == []
        without_id = replace(ref_of(saved.last), job_id=None).handle()
        assert (await place.another().inspect(without_id)).life is not Life.RUNNING
        for job in liars:
            assert (await asyncio.to_thread(place.cluster.job, job))["job_state"] in ("RUNNING", "PENDING")
        await audited(place, liars, tmp_path)
    finally:
        await asyncio.to_thread(place.cluster.run, "scancel", *liars)


async def are_listed(place: SlurmPlace, jobs: list[int]) -> bool:
    return set(jobs) <= (await place.backend._tools.watch.jobs(0)).keys()


def taken(place: SlurmPlace) -> int:
    return [status for *_, status in place.reports].count(200)


async def test_a_requeued_job_is_the_same_server_at_another_place(place: SlurmPlace) -> None:
    """Its port and node are read anew, and it is never an end."""
    saved = Saved()
    launch_id, url = await begun(place, saved)
    job = str(saved.last["job_id"])
    waiting = asyncio.create_task(place.backend.wait_ended(saved.last))
    run = place.cluster.run
    await asyncio.to_thread(run, "scontrol", "requeue", job)
    await asyncio.to_thread(place.cluster.in_state, job, "PENDING", "REQUEUED")
    assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
    # SLURM lets a requeued job wait for two minutes; an operator need not.
    await asyncio.to_thread(
        run, "scontrol", "update", f"jobid={job}", "nodelist=gpu1", "partition=any", "starttime=now"
    )
    await until(lambda: taken(place) == 2, within_s=60, what="it has reported again")
    assert {status for *_, status in place.reports} <= {200, 503}
    again = await place.backend.resume(saved.last)
    assert again != url
    assert place.traits["node_addresses"]["gpu1"] in again
    spec = place.spec(launch_id)
    await until(lambda: answers(place, again, spec), within_s=30, what="it answers there")
    assert not waiting.done()
    assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED
    assert (await asyncio.wait_for(waiting, 10)).life is Life.ENDED


async def answers(place: SlurmPlace, url: str, spec: LaunchSpec) -> bool:
    return bool((await place.get(url, spec, "whoami"))["pid"])


async def test_a_job_that_the_controller_forgot_goes_on(place: SlurmPlace) -> None:
    """A controller that is killed forgets young jobs: "Invalid job id" alone is no end of a server that answers."""
    saved = Saved()
    _, url = await begun(place, saved)
    forgotten = {**saved.last, "job_id": 999_999}
    assert (await place.backend.inspect(forgotten)).life is Life.RUNNING
    assert await place.backend.resume(forgotten) == url
    silent = {**forgotten, "port": 1}
    seen = await place.backend.inspect(silent)
    assert seen.life is Life.UNKNOWN
    assert "which is young" in seen.reason
    old = {**silent, "asked_at": silent["asked_at"] - 3600}
    assert (await place.backend.inspect(old)).life is Life.ENDED
    assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED


async def test_who_waits_in_the_queue_is_told_why_and_can_give_up(place: SlurmPlace) -> None:
    """A job that cannot start yet: its place in line and SLURM's reason in words; cancelled at any moment."""
    hog = await asyncio.to_thread(place.cluster.submit, "sleep 600", "--cpus-per-task=8", "--partition=cpu", user="bob")
    await asyncio.to_thread(place.cluster.in_state, hog, "RUNNING")
    try:
        saved, spec = Saved(), place.spec(new_id())
        start = asyncio.create_task(place.backend.start(spec, saved))
        await until(lambda: bool(waits(place, spec.launch_id)), within_s=20, what="it is told to wait")
        said = waits(place, spec.launch_id)[-1]
        assert f"Job {saved.last['job_id']} waits in partition cpu. " in said
        assert "number 1 in line" in said
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert (await place.backend.stop(saved.last, within_s=20)).life is Life.ENDED
        assert await ours(place.backend, spec.launch_id) == []
    finally:
        await asyncio.to_thread(place.cluster.run, "scancel", hog)


def waits(place: SlurmPlace, launch_id: str) -> list[str]:
    steps = place.backend._steps.get(launch_id)
    messages = [event.message for _, event in steps._events] if steps is not None else []
    return [message for message in messages if "number 1 in line" in message]


@newer_when_long
@pytest.mark.parametrize("outage", EVERY)
async def test_an_outage_ends_nothing_and_forgets_nothing(place: SlurmPlace, outage: str) -> None:
    """Running, for a hub that stays, for one that comes meanwhile, and for a stop that is asked for."""
    saved, told = Saved(), list[Observation]()
    launch_id, url = await begun(place, saved)
    pid = (await place.get(url, place.spec(launch_id), "whoami"))["pid"]

    async def doubt(seen: Observation) -> None:
        # What its job has is told as well, also for the first time.
        if seen.life is not (told[-1].life if told else Life.RUNNING):
            told.append(seen)

    waiting = asyncio.create_task(place.backend.wait_ended(saved.last, doubt=doubt))
    fault = OUTAGES[outage](place.cluster)
    await asyncio.to_thread(fault.__enter__)
    try:
        await until(lambda: [seen.life for seen in told] == [Life.UNKNOWN], within_s=40, what="the outage is told")
        assert told[0].reason
        restarted = place.another()
        await asyncio.gather(*(cannot_tell(backend, saved.last) for backend in (place.backend, restarted)))
        assert (await place.get(url, place.spec(launch_id), "whoami"))["pid"] == pid
        assert not waiting.done()
    finally:
        await asyncio.to_thread(fault.__exit__, None, None, None)
    await until(lambda: [seen.life for seen in told][-1] is Life.RUNNING, within_s=40, what="its end is told")
    # A program that waited for the settings all the while may reach its time limit just now.
    await until(functools.partial(tells, restarted, saved.last), within_s=40, what="the other hub is told, too")
    (found,) = await ours(restarted, launch_id)
    assert await restarted.resume(found) == url
    assert (await place.get(url, place.spec(launch_id), "whoami"))["pid"] == pid
    assert (await restarted.stop(saved.last, within_s=30)).life is Life.ENDED
    assert (await asyncio.wait_for(waiting, 10)).life is Life.ENDED
