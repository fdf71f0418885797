"""A start that waits in a real SLURM queue: what its page shows, closed, reopened, over a hub's death; many at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.slurm_site import SlurmSite
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.servers.tiny_server import program
from tests.waiting import LONG, until

pytestmark = [
    pytest.mark.needs("root", "slapd", "node", "chromium"),
    pytest.mark.timeout(1200 if LONG else 240),
]
MANY = 150 if LONG else 8
SHOTS = os.environ.get("DAAS_TEST_SHOTS", "")
"""A folder for pictures of what a person sees, if somebody wants to look."""
IMPATIENT_S = 4
MORE = """
c.JupyterHub.named_server_limit_per_user = 0
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0.5}
c.Reconciler.lease_s = 3
c.SlurmBackend.test_only_s = 5
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    """SLURM and this machine, and servers that need nothing but Python."""
    made = SlurmSite(slurm_any, local=True, more=MORE, cmd=list(program(reachable_python())))
    async with made.standing("ada", "dora"):
        yield made


@pytest.fixture(autouse=True)
def full(site: SlurmSite) -> Iterator[list[str]]:
    """Bob's jobs have every core of the cluster, and their end is known to the scheduler."""
    words = ("--cpus-per-task=8", "--mem=1000M", "--time=20")
    jobs = [site.cluster.submit("sleep 900", f"--partition={name}", *words, user="bob") for name in ("cpu", "gpu")]
    for job in jobs:
        site.cluster.in_state(job, "RUNNING")
    yield jobs
    site.cluster.run("scancel", "--user=bob")
    site.cluster.run("scancel", "--user=ada")


def waiting(site: SlurmSite) -> list[LaunchRow]:
    """Launches whose job is submitted."""
    rows = [row for row in site.launches() if row.state is LaunchState.SUBMITTED]
    return [row for row in rows if (row.handle or {}).get("job_id") is not None]


def active(site: SlurmSite) -> list[LaunchRow]:
    return [row for row in site.launches() if row.state is not LaunchState.ENDED]


async def looked_at(page: Page, name: str) -> None:
    """What must hold on every page: no finding, nothing wider than the window."""
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert await axe(page) == [], name
    assert await overflow(page) <= 0, name


@newer_when_long
@pytest.mark.asyncio(loop_scope="module")
async def test_the_page_of_a_waiting_job_is_closed_reopened_and_outlives_the_hub(
    site: SlurmSite, tmp_path: Path
) -> None:
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        # Somebody was there before her: she is second.
        site.cluster.submit("sleep 1", "--partition=cpu", "--cpus-per-task=8", "--mem=1000M", "--time=5", user="bob")
        status, said = await site.hub.api("POST", "users/ada/server", {"profile": "small", "placement": "slurm:cpu"})
        assert status == 202, said
        await until(lambda: waiting(site), within_s=60, what="her job is submitted")
        (row,) = waiting(site)
        job = str((row.handle or {})["job_id"])
        person = await browser.person(phone=True)
        page = await person.new_page()
        await sign_in(page, site.hub.url, "ada", site.person("ada").password)
        address = f"{site.hub.url}/hub/spawn-pending/ada"
        await page.goto(address)
        await sees_her_place(page, job)
        steps = [text.partition("(estimated")[0] for text in await page.locator("#progress-log > li").all_inner_texts()]
        await looked_at(page, "waiting-phone")
        # The age goes on without a word from the hub.
        await expect(page.locator(".daas-age").last).to_contain_text("2 s ago", timeout=30_000)
        await page.close()

        page = await person.new_page()
        await page.goto(address)
        await sees_her_place(page, job)
        again = [text.partition("(estimated")[0] for text in await page.locator("#progress-log > li").all_inner_texts()]
        assert again[1 : len(steps)] == steps[1:]
        await page.close()

        site.hub.signal(9)
        await site.hub.wait_gone()
        await site.hub.start()
        assert site.cluster.job(job)["job_state"] == "PENDING"
        page = await (await browser.person()).new_page()
        await sign_in(page, site.hub.url, "ada", site.person("ada").password)
        await page.goto(f"{site.hub.url}/hub/home")
        await page.get_by_role("link", name="start it again").click()
        await page.get_by_role("button", name="Start").click()
        await page.wait_for_url("**/hub/spawn-pending/ada*")
        await sees_her_place(page, job)
        await looked_at(page, "waiting-after-restart")
        assert [row.id for row in active(site)] == [row.id]
        await page.click("#daas-cancel")
        await until(lambda: not active(site), within_s=60, what="the launch ended")
        assert site.cluster.job(job)["job_state"] == "CANCELLED"
    finally:
        await browser.stop()


async def sees_her_place(page: Page, job: str) -> None:
    """State, reason, position and estimate of this job, with the estimate's age."""
    step = page.locator("#progress-log > li", has_text=f"Job {job} waits in partition cpu.").last
    await expect(step).to_contain_text("number 2 in line", timeout=30_000)
    await expect(step).to_contain_text("expected to start at about", timeout=30_000)
    await expect(step.locator(".daas-age")).to_contain_text("ago)")


@pytest.mark.asyncio(loop_scope="module")
async def test_where_squeue_has_no_estimate_one_is_asked_for_while_somebody_looks(
    site: SlurmSite, tmp_path: Path
) -> None:
    words = ("--partition=cpu", "--cpus-per-task=8", "--mem=1000M", "--time=5")
    with one_job_planned(site.cluster):
        first = site.cluster.submit("sleep 1", *words, user="bob")
        site.cluster.until(lambda: site.cluster.job(first)["start_time"], what="the first one is planned")
        options = {"profile": "small", "placement": "slurm:cpu"}
        status, said = await site.hub.api("POST", "users/ada/server", options)
        assert status == 202, said
        await until(lambda: waiting(site), within_s=60, what="her job is submitted")
        (row,) = waiting(site)
        job = int((row.handle or {})["job_id"])
        browser = await ChromiumServer(tmp_path / "chromium.log").start()
        try:
            page = await (await browser.person()).new_page()
            await sign_in(page, site.hub.url, "ada", site.person("ada").password)
            await page.goto(f"{site.hub.url}/hub/spawn-pending/ada")
            step = page.locator("#progress-log > li", has_text="A job like it, submitted now, would start at about")
            await expect(step.locator(".daas-age")).to_contain_text("ago)", timeout=60_000)
            await expect(page.locator("#progress-log > li", has_text="expected to start")).to_have_count(0)
            if SHOTS:
                await page.screenshot(path=Path(SHOTS) / "test-only.png", full_page=True)
        finally:
            await browser.stop()
        await site.hub.api("DELETE", "users/ada/server")
        await until(lambda: not active(site), within_s=60, what="the launch ended")
        # What was asked used up ids, and left no job.
        left = await asyncio.to_thread(
            site.cluster.run, "squeue", "--noheader", "--user=ada", "--states=PENDING,RUNNING"
        )
        assert (left, site.cluster.job(str(job))["job_state"]) == ("", "CANCELLED")


@contextmanager
def one_job_planned(cluster: Slurm) -> Iterator[None]:
    """The scheduler plans for the first waiting job and for no other."""
    with cluster.settings(lambda conf: conf.replace("bf_interval=1,", "bf_interval=1,bf_max_job_test=1,")):
        yield


@newer_when_long
@pytest.mark.asyncio(loop_scope="module")
async def test_many_jobs_wait_and_a_local_start_works_all_the_same(site: SlurmSite) -> None:
    """More starts than JupyterHub lets wait by default (100) in the long form."""
    options = {"profile": "small", "placement": "slurm:cpu"}
    names = [f"s{number}" for number in range(MANY)]
    for at in range(0, MANY, 10):
        posts = [site.hub.api("POST", f"users/ada/servers/{name}", options) for name in names[at : at + 10]]
        assert {status for status, _ in await asyncio.gather(*posts)} == {202}
    await until(lambda: len(waiting(site)) == MANY, within_s=MANY * 3 + 30, what="all are submitted", every_s=0.5)
    jobs = {(row.handle or {})["job_id"] for row in waiting(site)}
    assert len(jobs) == MANY
    status, said = await site.hub.start_server("dora", options={"profile": "small", "placement": "local"})
    assert status in (201, 202), said
    assert [row.backend for row in active(site) if row.user_name == "dora"] == ["local"]
    assert len(waiting(site)) == MANY
    await site.hub.stop_server("users/dora/server")
    for at in range(0, MANY, 10):
        ends = [site.hub.api("DELETE", f"users/ada/servers/{name}") for name in names[at : at + 10]]
        assert {status for status, _ in await asyncio.gather(*ends)} <= {202, 204}
    await until(lambda: not active(site), within_s=MANY * 3 + 30, what="all have ended", every_s=0.5)
    left = await asyncio.to_thread(site.cluster.run, "squeue", "--noheader", "--user=ada", "--states=PENDING,RUNNING")
    assert left == ""


@newer_when_long
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wait_that_is_too_long_ends_with_its_own_error(site: SlurmSite) -> None:
    """Not with start_timeout's, which is 30 s later."""
    await site.hub.stop()
    site.hub.config += f"\nc.SlurmBackend.wait_policy_s = {IMPATIENT_S}\n"
    await site.hub.start()
    options = {"profile": "small", "placement": "slurm:cpu"}
    status, said = await site.hub.api("POST", "users/ada/server", options)
    assert status == 202, said
    await until(lambda: waiting(site), within_s=60, what="her job is submitted")
    (row,) = waiting(site)
    await until(lambda: not active(site), within_s=60, what="the launch ended")
    (ended,) = [one for one in site.launches() if one.id == row.id]
    assert ended.reason == f"The cluster did not start the server within {IMPATIENT_S} s."
    assert site.cluster.job(str((row.handle or {})["job_id"]))["job_state"] == "CANCELLED"
