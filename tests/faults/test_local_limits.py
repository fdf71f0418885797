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
from tests.faults.local_server import begin, gone, pids_of, quoted
from tests.servers.local_place import LocalPlace
from tests.servers.tiny_server import get

pytestmark = pytest.mark.needs("root")
REPO = Path(__file__).parents[2]


async def test_more_memory_than_the_limit_ends_it_and_says_so(place: LocalPlace, saved: Saved) -> None:
    url = await begin(place, saved, resources=Resources(mem_limit_bytes=96 * 2**20))
    if not saved.last["enforces_limits"]:
        pytest.skip("needs writable cgroups")
    ended = asyncio.create_task(place.backend.wait_ended(saved.last))
    with pytest.raises(OSError):  # noqa: PT011  the connection breaks in one of several ways
        await asyncio.to_thread(get, f"{url}allocate?{200 * 2**20}")
    seen = await asyncio.wait_for(ended, 10)
    assert seen.life is Life.ENDED
    assert seen.exit_code == -signal.SIGKILL
    assert seen.reason == "out of memory: it used more than its 96 MiB"
    # Another process of the hub, which was not its parent, says the same.
    other = await place.another().inspect(saved.last)
    assert (other.exit_code, other.reason) == (seen.exit_code, seen.reason)


async def test_limits_are_written_where_the_server_is(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved, resources=Resources(cpu_limit=0.5, mem_limit_bytes=200 * 2**20))
    if not saved.last["enforces_limits"]:
        pytest.skip("needs writable cgroups")
    text = "".join(
        path.read_text()
        for group in saved.last["groups"]
        for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "memory.max", "cpu.max", "pids.max")
        if (path := Path(group) / name).exists()
    )
    assert str(200 * 2**20) in text
    assert "50000" in text
    assert "4096" in text
    assert set(saved.last["groups"]) <= set(await asyncio.to_thread(cgroups.groups_of, saved.last["pid"]))


async def test_more_cpu_than_the_limit_waits(place: LocalPlace, saved: Saved) -> None:
    url = await begin(place, saved, resources=Resources(cpu_limit=0.2))
    if not saved.last["enforces_limits"]:
        pytest.skip("needs writable cgroups")
    busy = "python3 -c 'import time\nwhile time.process_time() < 0.2: pass'"
    assert await quoted(place, url, busy) == ""
    stats = [Path(group) / "cpu.stat" for group in saved.last["groups"]]
    text = "".join(path.read_text() for path in stats if path.exists())
    throttled = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("nr_throttled "))
    assert throttled > 0


STAND_IN = """#!/usr/bin/env python3
# As systemd-run --scope: a group of the unit's name is made, this process moves into it and becomes the command.
import os, sys
unit = next(word for word in sys.argv if word.startswith("--unit=")).removeprefix("--unit=")
group = os.path.join(BASE, unit)
os.mkdir(group)
open(os.path.join(group, "cgroup.procs"), "w").write(str(os.getpid()))
command = sys.argv[sys.argv.index("--") + 1:]
os.execv(command[0], command)
"""


@pytest.mark.parametrize("fails", [False, True])
async def test_with_systemd_a_scope_is_waited_for(
    place: LocalPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """A stand-in for systemd-run: the real one needs a machine that systemd has started."""
    here = cgroups.mounted(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text())
    base = next((one.own for one in here if one.version == 2 or "pids" in one.controllers), None)
    if base is None or not os.access(base, os.W_OK):
        pytest.skip("needs a writable cgroup hierarchy")
    program = place.root / "bin" / "systemd-run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n" if fails else STAND_IN.replace("BASE", repr(str(base))))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(cgroups, "detect", lambda family: cgroups.Place("systemd"))
    if fails:
        with pytest.raises(BackendUnavailable) as failure:
            await begin(place, saved)
        assert "systemd-run" in failure.value.log_message
        assert saved.handles == []
        return
    await begin(place, saved, children=2)
    unit = f"daas-{place.backend.hub_id}-{saved.last['launch_id']}.scope"
    assert saved.last["groups"] == [str(base / unit)]
    assert saved.last["enforces_limits"] is True
    pids = await pids_of(saved.last)
    assert (await place.backend.stop(saved.last, within_s=10)).life is Life.ENDED
    assert await gone(pids)
    await place.backend.cleanup(saved.last)
    assert not (base / unit).exists()


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


async def test_a_hierarchy_that_cannot_be_used_is_said_and_the_rest_is(place: LocalPlace, saved: Saved) -> None:
    await place.backend.capacity()
    found = place.backend._limiter._place
    if found is None or found.kind != "v1":
        pytest.skip("needs writable cgroup v1 hierarchies")
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
