"""Servers in scopes of the real systemd. Where systemd did not start the machine: in a virtual one that it did."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from daas_hub.clients import cgroups, systemd
from daas_hub.core.models import Handle, Life, Resources
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.faults.local_server import begin, gone, pids_of
from tests.servers.local_place import LocalPlace
from tests.waiting import until

pytestmark = [pytest.mark.needs("root"), pytest.mark.cgroups("systemd")]


def told(unit: str, *names: str) -> list[str]:
    """What systemd says of a unit."""
    argv = ["systemctl", "show", "--property", ",".join(names), unit]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    return [dict(line.split("=", 1) for line in lines)[name] for name in names]


async def ended(unit: str) -> None:
    """systemd ends a unit in its own time."""
    await until(lambda: told(unit, "ActiveState") == ["inactive"], within_s=20, what=f"{unit} is no more", every_s=0.1)


async def test_a_server_has_a_scope_with_its_limits_until_it_ends(place: LocalPlace, saved: Saved) -> None:
    await begin(place, saved, children=2, resources=Resources(cpu_limit=0.5, mem_limit_bytes=200 * 2**20))
    unit = f"daas-{place.backend.hub_id}-{saved.last['launch_id']}.scope"
    inside = systemd.slice_name(f"daas-{place.backend.hub_id}", saved.last["launch_id"])
    group, above = saved.last["groups"]
    assert saved.last["enforces_limits"] is True
    # Not below the hub's own service: with that it would end.
    hub, launch = inside.removesuffix(".slice").rsplit("-", 1)
    assert group == f"/sys/fs/cgroup/daas.slice/{hub}.slice/{hub}-{launch}.slice/{unit}"
    assert above == str(Path(group).parent)
    assert told(unit, "ActiveState", "MemoryMax", "TasksMax") == ["active", str(200 * 2**20), "4096"]
    files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
    assert [Path(group, file).read_text().strip() for file in files] == [str(200 * 2**20), "0", "50000 100000", "4096"]
    pids = await pids_of(saved.last)
    assert len(pids) == 3
    assert set(pids) == await asyncio.to_thread(cgroups.members, (group,))
    assert (await place.backend.stop(saved.last, within_s=10)).life is Life.ENDED
    assert await gone(pids)
    await place.backend.cleanup(saved.last)
    assert not Path(above).exists()
    for name in (unit, inside):
        await ended(name)


async def test_a_start_that_is_given_up_leaves_no_slice(place: LocalPlace) -> None:
    async def full(handle: Handle) -> None:
        raise OSError(f"no room for {handle['launch_id']}")

    spec = place.spec(new_id())
    await place.backend.prepare(spec)
    with pytest.raises(OSError, match="no room"):
        await place.backend.start(spec, full)
    inside = systemd.slice_name(f"daas-{place.backend.hub_id}", spec.launch_id)
    await ended(inside)


async def test_a_killed_kernel_need_not_end_its_server_here(place: LocalPlace) -> None:
    """What test_local_limits.py shows of kernels rests on this word, which Debian 12 and all later systems know."""
    await place.backend.capacity()
    assert place.backend._limiter._place == cgroups.Place("systemd", words=systemd.SURVIVES)
