"""What a person sees of what SLURM gives and takes: a whole hub, one server, its job changed by an operator."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from daas_hub.core.models import LaunchState, Resource, Who
from daas_hub.db.ledger import LaunchRow
from tests.flow.slurm_site import SlurmSite
from tests.servers.kernels import ServerApi
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(300), newer_when_long]
MORE = """
c.DaasSpawner.profile_list.append({
    "display_name": "Whole node", "slug": "whole", "resources": {"cpu_limit": 1, "mem_limit": "512M"},
    "slurm_override": {"options": "--exclusive", "runtime": "0-2"},
})
c.Culler.read_ledger_every_s = 1
c.Reconciler.every_s = 3
"""


@pytest.fixture
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    async with SlurmSite(slurm_any, more=MORE).standing("ada") as made:
        yield made


def newest(site: SlurmSite) -> LaunchRow:
    return site.launches()[0]


async def console(site: SlurmSite, path: str) -> Any:
    """What the console's REST says to ada."""
    token = (await site.hub.api("POST", "users/ada/tokens", {"scopes": ["access:services!service=daas"]}))[1]["token"]
    url = f"{site.hub.url}/services/daas/api/v1/{path}"
    status, told = await site.hub.http("GET", url, None, {"Authorization": f"token {token}"})
    assert status == 200, told
    return told


async def test_allocated_requeued_and_over(site: SlurmSite) -> None:
    """One core is asked and a whole node given; the job runs again on another node; its time is over."""
    ledger = site.ledger()
    ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 4, by="admin:root", now=datetime.now(UTC))
    status, said = await site.hub.start_server("ada", options={"profile": "whole"})
    assert status in (201, 202), said
    await until(lambda: newest(site).charge.cores == 8, within_s=20, what="the allocation counts")
    row = newest(site)
    job = str((row.handle or {})["job_id"])
    usage = await console(site, "me/usage")
    (line,) = (line for line in usage["limits"] if line["resource"] == "cores")
    assert (line["amount"], line["used"]) == (4, 8)
    assert "counts for it: 8 cores" in await site.page("ada", "/hub/home")

    await requeued(site, job)
    row = await until(lambda: moved(site), within_s=60, what="its new port is known")
    api = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    await until(lambda: reached(api), within_s=60, what="the proxy leads to the new node")
    site.cluster.run("scontrol", "update", f"jobid={job}", "endtime=now+15")
    await until(lambda: on_home(site, r"will be stopped at \d\d:\d\d UTC"), within_s=20, what="its end is announced")

    await until(lambda: newest(site).state is LaunchState.ENDED, within_s=120, what="the launch ended")
    assert re.fullmatch(r"its time of \d min on SLURM was over", newest(site).reason)
    page = await site.page("ada", "/hub/home")
    assert f"Your server was stopped: {newest(site).reason}. Files in your home are kept." in page
    assert "will be stopped at" not in page
    assert "counts for it" not in page
    await until(lambda: not ledger.books_due(), within_s=60, what="accounting was heard")
    used = (await console(site, f"launches/{row.id}"))["used"]
    runs = accounted(site, job)
    assert [gpus for *_, gpus in runs] == [0, 2], "the second node has GPUs, and all of it was given"
    assert used == {
        "server_s": sum(elapsed for elapsed, *_ in runs),
        "core_s": sum(elapsed * cpus for elapsed, cpus, *_ in runs),
        "memory_byte_s": sum(elapsed * memory for elapsed, _, memory, _ in runs),
        "gpu_s": sum(elapsed * gpus for elapsed, _, _, gpus in runs),
    }
    assert ledger.recount() == []
    ledger.close()


async def requeued(site: SlurmSite, job: str) -> None:
    run = site.cluster.run
    await asyncio.to_thread(run, "scontrol", "requeue", job)
    await asyncio.to_thread(site.cluster.in_state, job, "PENDING", "REQUEUED")
    # SLURM lets a requeued job wait for two minutes; an operator need not.
    words = ("nodelist=gpu1", "partition=any", "starttime=now")
    await asyncio.to_thread(run, "scontrol", "update", f"jobid={job}", *words)


def moved(site: SlurmSite) -> LaunchRow | None:
    row = newest(site)
    return row if (row.handle or {}).get("node") == "gpu1" else None


async def reached(api: ServerApi) -> bool:
    try:
        return "started" in await api.get("api/status")
    except (AssertionError, OSError):
        return False


async def on_home(site: SlurmSite, words: str) -> bool:
    return re.search(words, await site.page("ada", "/hub/home")) is not None


def accounted(site: SlurmSite, job: str) -> list[tuple[int, int, int, int]]:
    """Seconds, cores, bytes and GPUs of each run, as sacct prints them."""
    words = ["--duplicates", "--noheader", "--parsable2", "--noconvert", "--allocations", "--allusers"]
    said = site.cluster.run("sacct", *words, "--format=ElapsedRaw,AllocTRES", f"--jobs={job}")
    found = []
    for line in said.splitlines():
        elapsed, tres = line.split("|")
        amounts = dict(part.split("=") for part in tres.split(","))
        memory = amounts["mem"]
        assert memory.endswith("M"), memory
        gpus = int(amounts.get("gres/gpu", 0))
        found.append((int(elapsed), int(amounts["cpu"]), int(float(memory[:-1]) * 2**20), gpus))
    return found
