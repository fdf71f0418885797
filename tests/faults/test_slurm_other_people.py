"""What anybody, or a changed setting, can do on a cluster beside a hub: it harms no server and blinds nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daas_hub.backends import slurm_end
from daas_hub.backends.slurm import SlurmBackend
from daas_hub.clients import nss
from daas_hub.clients.slurm import Slurm as Client
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from daas_hub.core.slurm_jobs import comment_of, waits_for_room
from tests.contracts.backend import Saved
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.servers.slurm_helper import Helper
from tests.servers.slurm_place import SlurmPlace, slurm_place
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


@contextmanager
def settings(slurm: Slurm, *lines: str) -> Iterator[None]:
    """Further lines of slurm.conf, in force."""
    with slurm.settings(lambda conf: "\n".join([conf, *lines, ""])):
        yield


@pytest.fixture
def jobs(slurm_any: Slurm) -> Iterator[Callable[..., int]]:
    """Submit jobs; they are cancelled in the end."""
    ids: list[str] = []

    def submit(*options: str, user: str = "ada") -> int:
        ids.append(slurm_any.submit("sleep 600", "--output=/dev/null", *options, user=user))
        return int(ids[-1])

    yield submit
    if ids:
        slurm_any.ask("scancel", *ids)


async def test_no_begin_of_a_job_makes_the_whole_queue_unreadable(slurm_any: Slurm, jobs: Callable[..., int]) -> None:
    ask = Client(prefix=slurm_any.login(), within_s=60)
    never = [jobs(f"--begin=now+{many}weeks") for many in (500_000, 9_999_999, 2_147_483_647)]
    late, held = jobs("--begin=9999-12-31T00:00:00"), jobs("--hold")
    seen = await ask.jobs()
    assert [seen[number].expected_at for number in (*never, late, held)] == [None] * 5
    assert [number for number in (*never, late, held) if waits_for_room(seen[number])] == []
    assert await ask.job(never[0]) == seen[never[0]]


@pytest.mark.needs("root", "slurm")
async def test_jobs_that_are_hidden_from_now_on_have_not_ended(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PrivateData is set while a hub runs that is no operator's, and that has believed an end before."""
    person = SimpleNamespace(getpwuid=lambda _: SimpleNamespace(pw_name="eve"))
    monkeypatch.setattr(slurm_end, "pwd", person)
    as_eve = [*slurm.world.login(), "setpriv", f"--reuid={PEOPLE['eve']}", f"--regid={LAB_GID}", "--init-groups"]
    backend = SlurmBackend(
        hub_id="eyes", runtime_dir=str(tmp_path / "r"), helper=Helper(slurm).argv, command_prefix=as_eve
    )
    launch_id = new_id()
    job = int(slurm.submit("sleep 600", "--hold", f"--comment={comment_of('eyes', launch_id)}", user="bob"))
    handle = {
        "backend": "slurm", "version": 1, "launch_id": launch_id, "hub_id": "eyes", "name": "bob",
        "uid": PEOPLE["bob"], "gid": LAB_GID, "home": "/", "service_prefix": "/user/bob/", "tls": False,
        "asked_at": time.time() - 3600, "job_id": job,
    }  # fmt: skip
    try:
        unknown = {**handle, "job_id": 999_999}
        assert (await backend.inspect(unknown)).life is Life.ENDED
        with settings(slurm, "PrivateData=jobs"):
            await until(lambda: hidden(backend, job), within_s=60, what="the setting is in force")
            for one in (handle, {**handle, "job_id": None}):
                seen = await backend.inspect(one)
                assert (seen.life, "PrivateData" in seen.reason) == (Life.UNKNOWN, True), seen
        assert (await until(lambda: running(backend, handle), within_s=60, what="it is shown again")).grant is not None
    finally:
        slurm.ask("scancel", str(job))
        await backend.close()


async def hidden(backend: SlurmBackend, job: int) -> bool:
    return await backend._tools.slurm.job(job) is None and job not in await backend._tools.watch.jobs(0)


async def running(backend: SlurmBackend, handle: dict[str, Any]) -> Any:
    seen = await backend.inspect(handle)
    return seen if seen.life is Life.RUNNING else None


@pytest.mark.needs("root", "slurm")
async def test_a_changed_comment_and_a_requeue_lose_no_server(slurm: Slurm) -> None:
    """Both can be done by her, and by a site's own programs: it stays the launch's, and can be stopped."""
    async with slurm_place(slurm) as place:
        saved = await begun(place)
        job = str(saved.last["job_id"])
        await asyncio.to_thread(slurm.run, "scontrol", "update", f"jobid={job}", "comment=used 3%", user="ada")
        await asyncio.to_thread(slurm.run, "scontrol", "requeue", job, user="ada")
        await asyncio.to_thread(slurm.in_state, job, "PENDING", "REQUEUED")
        assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
        assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED
        await asyncio.to_thread(slurm.in_state, job, "CANCELLED")


async def begun(place: SlurmPlace) -> Saved:
    saved, spec = Saved(), place.spec(new_id())
    await place.backend.start(spec, saved)
    return saved


@pytest.mark.needs("root", "slurm")
async def test_a_server_of_an_account_that_was_renamed_can_be_stopped(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its uid is who it is; the name in the handle is nobody's any more, on the hub's host and on the nodes."""
    path = slurm.world.etc / "passwd"
    before = path.read_text()
    async with slurm_place(slurm) as place:
        saved = await begun(place)
        folder = slurm.homes / "ada" / ".daas" / str(saved.last["launch_id"])
        assert folder.is_dir()

        def known(name: str) -> SimpleNamespace:
            raise KeyError(name)

        names = SimpleNamespace(getpwnam=known, getpwuid=lambda _: SimpleNamespace(pw_name="adele"))
        path.write_text(before.replace("\nada:", "\nadele:"))
        try:
            assert (await place.backend.stop(saved.last, within_s=10)).life is Life.UNKNOWN
            monkeypatch.setattr(nss, "pwd", names)
            assert (await place.backend.stop(saved.last, within_s=30)).life is Life.ENDED
            await place.backend.cleanup(saved.last)
            assert not folder.exists()
        finally:
            path.write_text(before)
