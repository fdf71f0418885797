"""The cards of the spawn page on a real cluster: they become busy and free while it is open, and offer choices."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.flow.slurm_site import SlurmSite
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import BEAM, FAST, LAB, Slurm
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "chromium", "node"), pytest.mark.timeout(240), newer_when_long]
PARTITION = "cards"
SHOTS = os.environ.get("DAAS_TEST_SHOTS", "")
"""A folder for pictures of what a person sees, if somebody wants to look."""
PROFILES = f"""
from datetime import timedelta
from daas_hub.backends import slurm_capacity

# The look that everybody shares is young, so that nobody waits for it here.
slurm_capacity.KEPT_FOR = timedelta(seconds=1)
c.DaasSpawner.profile_list = [
    {{"display_name": "Batch node", "slug": "batch.node", "resources": {{"cpu_limit": 2, "mem_limit": "1G"}},
      "slurm_override": {{"partition": "{PARTITION}"}}, "slurm_choices": ["slurm_account", "qos", "runtime"]}},
    {{"display_name": "Any node", "slug": "any", "resources": {{"cpu_limit": 1, "mem_limit": "512M"}},
      "slurm_choices": ["partition", "slurm_account", "qos", "reservation", "runtime"]}},
    {{"display_name": "Huge", "slug": "huge", "resources": {{"cpu_limit": 64, "mem_limit": "1G"}}}},
]
"""


@pytest.fixture(scope="module")
def site(slurm_any: Slurm) -> Iterator[SlurmSite]:
    slurm_any.run("scontrol", "create", f"partition={PARTITION}", "Nodes=cpu1", "MaxTime=2:00:00", "DefaultTime=30")
    made = SlurmSite(slurm_any, more=PROFILES, cmd=list(program(reachable_python())))
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())
        slurm_any.run("scontrol", "delete", f"partition={PARTITION}")


def fill(slurm: Slurm) -> str:
    """A job that has all cores of the partition for twelve minutes."""
    job = slurm.submit("sleep 700", "--partition=cpu", "--cpus-per-task=8", "--mem=1000M", "--time=12", user="eve")
    slurm.in_state(job, "RUNNING")
    return job


async def shows(page: Page, words: str) -> None:
    """The card says so soon, because the page's clock runs ahead."""
    card = page.locator("[id='daas-availability-batch.node']")

    async def said() -> bool:
        await page.clock.fast_forward(15_100)
        return words in await card.inner_text()

    await until(said, within_s=30, every_s=0.5, what=f"the card says {words!r}")


async def looked_at(page: Page, name: str) -> None:
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)
    assert await axe(page, within="#daas-spawn-form") == [], name
    assert await overflow(page) <= 0, name


@pytest.mark.parametrize("look", ["light-desktop", "dark-phone"])
async def test_a_card_follows_the_cluster_without_a_reload(site: SlurmSite, browser: ChromiumServer, look: str) -> None:
    person = await browser.person(dark="dark" in look, phone="phone" in look)
    page = await person.new_page()
    await page.clock.install()
    await sign_in(page, site.hub.url, "bob", site.person("bob").password)
    await page.goto(f"{site.hub.url}/hub/spawn")
    await page.evaluate("window.same = true")
    aloud = page.locator("#daas-availability-said")
    await expect(aloud).to_be_empty()
    await shows(page, "Free")
    await expect(page.locator("#daas-availability-huge")).to_have_text("Too large for this hub")
    await looked_at(page, f"availability-free-{look}")
    job = await asyncio.to_thread(fill, site.cluster)
    try:
        await shows(page, "Busy, free in about 1")
        await expect(aloud).to_contain_text("Batch node: Busy, free in about 1")
        await page.locator("label[for='daas-profile-any']").click()
        offered = page.locator("[name='profile-option-any--slurm_account'] option")
        assert {await each.get_attribute("value") for each in await offered.all()} == {"", BEAM, LAB}
        await page.get_by_label("QOS").locator("visible=true").select_option(FAST)
        await page.get_by_label("Walltime").locator("visible=true").fill("0:20:00")
        await looked_at(page, f"availability-busy-{look}")
    finally:
        await asyncio.to_thread(site.cluster.run, "scancel", job)
    await shows(page, "Free")
    await expect(aloud).to_contain_text("Batch node: Free.")
    # What she has filled in is still there, and so is the page.
    await expect(page.get_by_label("Walltime").locator("visible=true")).to_have_value("0:20:00")
    assert await page.evaluate("window.same") is True
