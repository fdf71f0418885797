"""Limits of memory and CPU: held, written where the server is, or said to be missing."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.clients import cgroups
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.models import Life, Resources
from tests.contracts.backend import Saved
from tests.faults.local_server import begin, quoted
from tests.servers.local_place import LocalPlace
from tests.servers.tiny_server import get

pytestmark = pytest.mark.needs("root")


@pytest.mark.cgroups
async def test_a_kernel_that_takes_too_much_is_killed_and_a_server_that_does_ends(
    place: LocalPlace, saved: Saved
) -> None:
    neighbour = Saved()
    await begin(place, neighbour)
    url = await begin(place, saved, resources=Resources(mem_limit_bytes=96 * 2**20))
    greedy = "python3 -c 'x = b\"x\" * (200 * 2**20)' || echo status $?"
    # Twice: what watches the group must not end the server a moment after the first one.
    for _ in range(2):
        assert (await quoted(place, url, greedy)).splitlines()[-1] == "status 137"
    assert (await place.backend.inspect(saved.last)).life is Life.RUNNING
    assert await asyncio.to_thread(cgroups.oom_kills, saved.last["groups"]) == 2

    ended = asyncio.create_task(place.backend.wait_ended(saved.last))
    with pytest.raises(OSError):  # noqa: PT011  the connection breaks in one of several ways
        await asyncio.to_thread(get, f"{url}allocate?{200 * 2**20}")
    seen = await asyncio.wait_for(ended, 30)
    assert seen.life is Life.ENDED
    assert seen.exit_code == -signal.SIGKILL
    assert seen.reason == "out of memory: it used more than its 96 MiB"
    # Another process of the hub, which was not its parent, says the same.
    other = await place.another().inspect(saved.last)
    assert (other.exit_code, other.reason) == (seen.exit_code, seen.reason)
    assert (await place.backend.inspect(neighbour.last)).life is Life.RUNNING


@pytest.mark.cgroups
async def test_limits_are_written_where_the_server_is_and_more_cpu_waits(place: LocalPlace, saved: Saved) -> None:
    url = await begin(place, saved, resources=Resources(cpu_limit=0.5, mem_limit_bytes=200 * 2**20))
    text = "".join(
        path.read_text()
        for group in saved.last["groups"]
        for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "memory.max", "cpu.max", "pids.max")
        if (path := Path(group) / name).exists()
    )
    assert str(200 * 2**20) in text
    assert "50000" in text
    assert "4096" in text
    own = await asyncio.to_thread(cgroups.groups_of, saved.last["pid"])
    # Its own groups; with systemd also the slice around its scope.
    assert saved.last["groups"][0] in own
    assert all(any(Path(one).is_relative_to(group) for one in own) for group in saved.last["groups"])

    busy = "python3 -c 'import time\nwhile time.process_time() < 0.2: pass'"
    assert await quoted(place, url, busy) == ""
    stats = [Path(group) / "cpu.stat" for group in saved.last["groups"]]
    text = "".join(path.read_text() for path in stats if path.exists())
    throttled = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("nr_throttled "))
    assert throttled > 0


async def test_a_scope_that_systemd_refuses_fails_the_start(
    place: LocalPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = place.root / "bin" / "systemd-run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(cgroups, "detect", lambda family: cgroups.Place("systemd"))
    with pytest.raises(BackendUnavailable) as failure:
        await begin(place, saved)
    assert "systemd-run" in failure.value.log_message
    assert saved.handles == []


async def test_where_limits_cannot_be_held_it_is_said_or_refused(
    place: LocalPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = cgroups.Place("none", reason="cgroups are read-only")
    monkeypatch.setattr(cgroups, "detect", lambda family: nowhere)
    (look,) = await place.backend.capacity()
    assert not look.enforces_limits
    assert look.note == "limits not enforced here: cgroups are read-only"
    await begin(place, saved)
    assert saved.last["enforces_limits"] is False
    assert saved.last["limits_note"] == "limits not enforced here: cgroups are read-only"
    place.backend.require_limits = True
    strict = Saved()
    with pytest.raises(StartFailed) as failure:
        await begin(place, strict)
    assert failure.value.permanent
    assert "require_limits" in failure.value.log_message
    assert strict.handles == []


@pytest.mark.cgroups("v1")
async def test_a_hierarchy_that_cannot_be_used_is_said_and_the_rest_is(place: LocalPlace, saved: Saved) -> None:
    await place.backend.capacity()
    found = place.backend._limiter._place
    assert found is not None
    broken = replace(found, bases=(found.bases[0], Path("/proc/1/no-such-hierarchy")))
    place.backend._limiter._place = broken
    await begin(place, saved)
    handle = saved.last
    assert handle["enforces_limits"] is False
    assert "No such file" in handle["limits_note"]
    assert [Path(group).parent for group in handle["groups"]] == [found.bases[0]]
    seen = await place.backend.stop(handle, within_s=10)
    assert seen.life is Life.ENDED
    await place.backend.cleanup(handle)
    assert not Path(handle["groups"][0]).exists()
    place.backend._limiter._place = found


@pytest.mark.cgroups("v2")
async def test_the_hub_itself_goes_into_a_leaf(place: LocalPlace, saved: Saved) -> None:
    """A group with controllers may hold no process, so the hub's own one must be emptied for its servers."""
    child = await asyncio.create_subprocess_exec("sleep", "1000")
    await begin(place, saved)
    (group,) = saved.last["groups"]
    home = Path(group).parents[1]
    leaf = str(home / cgroups.SELF_LEAF)
    assert await asyncio.to_thread(cgroups.groups_of, os.getpid()) == (leaf,)
    assert await asyncio.to_thread(cgroups.groups_of, child.pid) == (leaf,)
    assert await asyncio.to_thread(cgroups.members, (str(home),)) == set()
    for parent in (home, Path(group).parent):
        assert {"cpu", "memory", "pids"} <= set((parent / "cgroup.subtree_control").read_text().split())
    # A hub that starts again finds itself in the leaf, and its servers where they are.
    other = place.another()
    assert (await other.find())[0].handle["groups"] == [group]
    await other.capacity()
    assert other._limiter._place == place.backend._limiter._place
    child.kill()
    await child.wait()


@pytest.mark.cgroups("v1", "v2")
async def test_our_folder_of_groups_goes_with_the_last_one_and_comes_back(place: LocalPlace) -> None:
    for _ in range(2):
        saved = Saved()
        await begin(place, saved)
        families = {Path(group).parent for group in saved.last["groups"]}
        assert all(family.exists() for family in families)
        await place.backend.stop(saved.last, within_s=10)
        await place.backend.cleanup(saved.last)
        assert not any(family.exists() for family in families)


# ---------------------------------------------------------------- ends
