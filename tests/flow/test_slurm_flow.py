"""From sign-in to a stopped server on a real SLURM cluster, through a whole hub: jobs as the directory's own uids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.slurm_site import SlurmSite
from tests.servers.kernels import ServerApi
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(240), newer_when_long]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    async with SlurmSite(slurm_any).standing("ada") as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_waits(site: SlurmSite) -> Iterator[None]:
    yield
    site.cluster.run("scancel", "--user=bob")


def rows(site: SlurmSite) -> list[LaunchRow]:
    """Launches that have not ended."""
    return [row for row in site.launches() if row.state is not LaunchState.ENDED]


async def ended(site: SlurmSite) -> bool:
    return not await asyncio.to_thread(rows, site)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_server_is_a_job_of_the_person(site: SlurmSite) -> None:
    """Her uid and groups, her home, a kernel; stopped, it is gone and freed; her file stays."""
    ada = site.person("ada")
    status, said = await site.hub.start_server("ada", options={"profile": "small"})
    assert status in (201, 202), said
    (row,) = rows(site)
    assert (row.state, row.backend) == (LaunchState.RUNNING, "slurm")
    assert row.handle is not None
    job = site.cluster.job(str(row.handle["job_id"]))
    assert (job["user_name"], job["job_state"]) == ("ada", "RUNNING")
    assert job["comment"] == f"daas:{site.hub_id}:{row.id}"
    kernels = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    kernel = await kernels.new_kernel()
    said = await kernels.run(kernel, "import os; print(os.getuid(), os.getgid(), os.environ['FROM_PROFILE'])")
    assert said == f"{ada.uid} {ada.gid} yes\n"
    await kernels.run(kernel, "open(os.path.expanduser('~/result'), 'w').write('kept')")
    status, _ = await site.hub.api("DELETE", "users/ada/server")
    assert status in (202, 204)
    await until(lambda: ended(site), within_s=60, what="the launch ended")
    assert site.cluster.job(str(row.handle["job_id"]))["job_state"] in ("CANCELLED", "COMPLETED")
    assert (site.homes / "ada" / "result").read_text() == "kept"
    await until(lambda: nothing_left(site, row), within_s=30, what="the launch's folder is gone")


def nothing_left(site: SlurmSite, row: LaunchRow) -> bool:
    return not Path(site.homes, "ada", ".daas", row.id).exists()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_restart_of_the_hub_keeps_job_and_kernel(site: SlurmSite) -> None:
    status, said = await site.hub.start_server("ada", options={"profile": "small"})
    assert status in (201, 202), said
    (before,) = rows(site)
    kernels = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    kernel = await kernels.new_kernel()
    await kernels.run(kernel, "x = 41")
    await site.hub.stop()
    await site.hub.start()
    await until(lambda: running(site), within_s=60, what="the hub knows her server")
    (after,) = rows(site)
    assert (after.id, after.state) == (before.id, LaunchState.RUNNING)
    assert before.handle is not None
    assert after.handle is not None
    assert after.handle["job_id"] == before.handle["job_id"]
    kernels = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    assert await kernels.run(kernel, "print(x + 1)") == "42\n"
    await site.hub.stop_server("users/ada/server")
    await until(lambda: ended(site), within_s=60, what="the launch ended")


async def running(site: SlurmSite) -> bool:
    server = await site.hub.server("ada")
    return server is not None and bool(server["ready"])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_job_that_waits_keeps_its_place_over_a_restart(site: SlurmSite) -> None:
    """Every core is somebody else's. The hub is killed meanwhile: the job stays, and is hers when it runs."""
    hogs = await asyncio.to_thread(fill, site)
    start = asyncio.create_task(site.hub.api("POST", "users/ada/server", {"profile": "small"}))
    await until(lambda: submitted(site), within_s=60, what="her job is submitted")
    (row,) = rows(site)
    assert row.handle is not None
    job = str(row.handle["job_id"])
    assert site.cluster.job(job)["job_state"] == "PENDING"
    site.hub.signal(9)
    await site.hub.wait_gone()
    await asyncio.gather(start, return_exceptions=True)
    await site.hub.start()
    (row,) = rows(site)
    assert row.state is LaunchState.SUBMITTED
    assert site.cluster.job(job)["job_state"] == "PENDING"
    await asyncio.to_thread(site.cluster.run, "scancel", *hogs)
    await until(lambda: running(site), within_s=150, what="the hub has taken her server over")
    (row,) = rows(site)
    assert row.handle is not None
    assert (row.state, str(row.handle["job_id"])) == (LaunchState.RUNNING, job)
    await site.hub.stop_server("users/ada/server")
    await until(lambda: ended(site), within_s=60, what="the launch ended")


def fill(site: SlurmSite) -> list[str]:
    """Bob's jobs have every core of the cluster."""
    words = ("--cpus-per-task=8", "--mem=1000M")
    jobs = [site.cluster.submit("sleep 900", f"--partition={name}", *words, user="bob") for name in ("cpu", "gpu")]
    for job in jobs:
        site.cluster.in_state(job, "RUNNING")
    return jobs


async def submitted(site: SlurmSite) -> bool:
    found = await asyncio.to_thread(rows, site)
    return bool(found) and found[0].handle is not None and found[0].handle["job_id"] is not None


@pytest.mark.asyncio(loop_scope="module")
async def test_who_waits_can_give_up(site: SlurmSite) -> None:
    await asyncio.to_thread(fill, site)
    start = asyncio.create_task(site.hub.api("POST", "users/ada/server", {"profile": "small"}))
    await until(lambda: submitted(site), within_s=60, what="her job is submitted")
    (row,) = rows(site)
    assert row.handle is not None
    status, said = await site.hub.api("DELETE", "users/ada/server")
    assert status in (202, 204), said
    await asyncio.gather(start, return_exceptions=True)
    await until(lambda: ended(site), within_s=60, what="the launch ended")
    assert site.cluster.job(str(row.handle["job_id"]))["job_state"] == "CANCELLED"
