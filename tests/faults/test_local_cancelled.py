"""A start that is given up at any moment, and homes and folders that fail on the way: nothing may be left."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.local_limits import Limiter
from daas_hub.clients import processes
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.local_place import GID, UID, LocalPlace, backend_groups, local_place
from tests.waiting import until

pytestmark = pytest.mark.needs("root")


@pytest.fixture
async def place() -> AsyncIterator[LocalPlace]:
    async with local_place() as place:
        yield place


async def check_nothing_left(place: LocalPlace, launch_ids: list[str]) -> None:
    """No process, no folder, no cgroup of these launches."""
    assert await place.backend.find() == []
    for launch_id in launch_ids:
        marked = await asyncio.to_thread(processes.with_environment, "DAAS_LAUNCH_ID", launch_id, UID)
        assert marked == []
    root = Path(place.backend.runtime_dir) / place.backend.hub_id
    assert not root.exists() or os.listdir(root) == []
    bases = place.backends[0]._limiter._place
    assert bases is not None
    assert [group for group in backend_groups(place.backends[0]) if group not in bases.bases] == []


@pytest.mark.timeout(120)
async def test_a_start_given_up_at_any_moment_leaves_nothing(place: LocalPlace) -> None:
    await place.backend.capacity()
    launch_ids = []
    finished = 0
    for delay_ms in range(0, 400, 16):
        spec, saved = place.spec(new_id()), Saved()
        launch_ids.append(spec.launch_id)
        await place.backend.prepare(spec)
        start = asyncio.create_task(place.backend.start(spec, saved))
        await asyncio.wait({start}, timeout=delay_ms / 1000)
        finished += start.done()
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        if saved.handles:
            seen = await place.backend.stop(saved.last, within_s=20)
            assert seen.life is Life.ENDED, delay_ms
            await place.backend.cleanup(saved.last)
    await check_nothing_left(place, launch_ids)
    assert 0 < finished < len(launch_ids), "the delays must lie before and after the end of a start"


async def test_stop_while_the_start_still_waits(place: LocalPlace) -> None:
    spec, saved = place.spec(new_id(), silent=True), Saved()
    await place.backend.prepare(spec)
    start = asyncio.create_task(place.backend.start(spec, saved))
    await until(lambda: saved.handles)
    seen = await place.backend.stop(saved.last, within_s=20)
    assert seen.life is Life.ENDED
    with pytest.raises(StartFailed, match="ended before it answered"):
        await start


async def test_a_home_that_went_away_leaves_no_secret_behind(place: LocalPlace) -> None:
    spec, saved = place.spec(new_id()), Saved()
    await place.backend.capacity()
    await place.backend.prepare(spec)
    shutil.rmtree(place.account.home)
    with pytest.raises(StartFailed, match="cannot be used"):
        await place.backend.start(spec, saved)
    assert saved.handles == []
    await check_nothing_left(place, [spec.launch_id])


@pytest.mark.parametrize("fault", ["its own owner", "an owner above", "open to everybody"])
async def test_a_runtime_folder_that_others_could_change_is_not_used(place: LocalPlace, fault: str) -> None:
    spec = place.spec(new_id())
    await place.backend.prepare(spec)
    root = Path(place.backend.runtime_dir) / place.backend.hub_id
    root.mkdir(parents=True)
    if fault == "open to everybody":
        root.parent.chmod(0o777)
    else:
        os.chown(root if fault == "its own owner" else root.parent, UID, GID)
    with pytest.raises(StartFailed) as failure:
        await place.backend.start(spec, Saved())
    assert "runtime_dir" in failure.value.log_message
    assert not failure.value.permanent
    assert os.listdir(root) == []


async def test_what_a_killed_hub_left_is_removed_after_a_day(place: LocalPlace) -> None:
    kept, old, running = (place.spec(new_id()) for _ in range(3))
    await place.backend.prepare(kept)
    folders = []
    for spec in (kept, old, running):
        saved = Saved()
        await place.backend.start(spec, saved)
        folders.append(Path(saved.last["dir"]))
        if spec is not running:
            await place.backend.stop(saved.last, within_s=10)
    halfway = folders[0].parent / new_id()
    halfway.mkdir()
    for folder in (folders[1], folders[2], halfway):
        os.utime(folder, (0, 0))
    other = place.another()
    await other.sweep()
    assert [folder.exists() for folder in (*folders, halfway)] == [True, False, True, False]
    assert len(await other.find()) == 1


@pytest.fixture
def hanging_root(place: LocalPlace) -> Iterator[Path]:
    """A file system that can be frozen: whoever writes there hangs in the kernel, as on a lost NFS server."""
    image, folder = place.root / "image", place.root / "homes"
    folder.mkdir(mode=0o755)
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        subprocess.run(["fsfreeze", "-u", folder], stderr=subprocess.DEVNULL)
        subprocess.run(["umount", folder], check=True)


@pytest.mark.needs("loop")
async def test_a_home_that_hangs_fails_in_time_and_blocks_nobody(place: LocalPlace, hanging_root: Path) -> None:
    place.backend.home_timeout_s = 1.0
    other = place.spec(new_id())
    stuck = place.spec(new_id(), account=replace(place.account, home=str(hanging_root / "zora")))
    subprocess.run(["fsfreeze", "-f", hanging_root], check=True)
    with pytest.raises(StartFailed) as failure:
        async with asyncio.timeout(5):
            await place.backend.prepare(stuck)
    assert failure.value.reason == "home_timeout"
    assert not failure.value.permanent
    # Somebody else's start goes on meanwhile.
    await place.backend.prepare(other)
    subprocess.run(["fsfreeze", "-u", hanging_root], check=True)
    place.backend.home_timeout_s = 20.0
    await place.backend.prepare(stuck)
    assert (hanging_root / "zora").stat().st_uid == UID


async def test_what_a_lost_start_left_is_removed_but_never_while_its_process_runs(place: LocalPlace) -> None:
    """As the reconciler does it, in a process of its own, for a launch without a handle in the ledger."""
    spec, saved, reconcilers = place.spec(new_id()), Saved(), place.another()
    await place.backend.prepare(spec)
    await place.backend.start(spec, saved)
    with pytest.raises(BackendUnavailable, match="its process runs"):
        await reconcilers.cleanup_lost(spec.launch_id)
    assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
    assert Path(saved.last["dir"]).is_dir()
    await place.backend.stop(saved.last, within_s=10)
    for _ in range(2):
        await reconcilers.cleanup_lost(spec.launch_id)
    await check_nothing_left(place, [spec.launch_id])


async def test_a_start_that_goes_on_here_is_not_taken_for_a_lost_one(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, saved = place.spec(new_id()), Saved()
    hold, reached, go_on = Limiter.hold, asyncio.Event(), asyncio.Event()

    async def stand_still(limiter: Limiter, *given: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await hold(limiter, *given)

    monkeypatch.setattr(Limiter, "hold", stand_still)
    await place.backend.prepare(spec)
    start = asyncio.create_task(place.backend.start(spec, saved))
    await reached.wait()
    await place.backend.cleanup_lost(spec.launch_id)
    go_on.set()
    await start
    assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
    await place.backend.stop(saved.last, within_s=10)
    await place.backend.cleanup(saved.last)
    await check_nothing_left(place, [spec.launch_id])
