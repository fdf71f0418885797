"""What a person may ask of a real cluster, through a whole hub: the form, REST, and the job that comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from daas_hub.core.models import LaunchState
from tests.flow.slurm_site import SlurmSite
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import BEAM, FAST, LAB, Slurm
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("root", "slapd", "node"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
PARTITION = "flowbeam"
PROFILES = f"""
c.DaasSpawner.project_slurm_accounts = {{"p-beam": "{BEAM}"}}
c.DaasSpawner.profile_list = [
    {{"display_name": "Mine", "slug": "mine", "resources": {{"cpu_limit": 1, "mem_limit": "256M"}},
      "slurm_choices": ["partition", "slurm_account", "qos", "reservation", "runtime"]}},
    {{"display_name": "Plain", "slug": "plain", "resources": {{"cpu_limit": 1, "mem_limit": "256M"}}}},
]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    """A partition for who charges beam, which bob may and ada may not; both are members of the project."""
    slurm_any.run(
        "scontrol", "create", f"partition={PARTITION}", "Nodes=cpu1", "MaxTime=1:00:00", f"AllowAccounts={BEAM}"
    )
    made = SlurmSite(slurm_any, more=PROFILES, cmd=list(program(reachable_python())))
    try:
        async with made.standing("ada", "bob"):
            yield made
    finally:
        slurm_any.run("scontrol", "delete", f"partition={PARTITION}")


async def started(site: SlurmSite, name: str, options: dict[str, str]) -> dict[str, str]:
    """What SLURM says of the job of a start, which is stopped again."""
    try:
        status, said = await site.hub.start_server(name, options=options)
    except AssertionError:
        print(site.cluster.run("scontrol", "show", "job"), site.hub.log_text()[-6000:])
        raise
    assert status in (201, 202), said
    row = next(each for each in site.launches() if each.user_name == name)
    assert row.state is LaunchState.RUNNING
    assert row.handle is not None
    words = ["--noheader", f"--jobs={row.handle['job_id']}", "--format=%P|%a|%q|%l|%v"]
    told = (await asyncio.to_thread(site.cluster.run, "squeue", *words)).strip().split("|")
    await site.hub.stop_server(f"users/{name}/server")

    def over() -> bool:
        return all(each.state is LaunchState.ENDED for each in site.launches())

    await until(over, within_s=60, what="it has ended")
    return dict(zip(("partition", "slurm_account", "qos", "runtime", "reservation"), told, strict=True))


async def refused(site: SlurmSite, name: str, options: dict[str, str]) -> tuple[int, str]:
    """Status, and what is said where it is refused."""
    status, said = await site.hub.api("POST", f"users/{name}/server", options)
    return status, said["message"] if isinstance(said, dict) else ""


async def test_what_she_chose_is_what_the_job_has(site: SlurmSite) -> None:
    asked = {"partition": PARTITION, "slurm_account": BEAM, "qos": "normal", "runtime": "0:30:00"}
    job = await started(site, "bob", {"profile": "mine", **asked})
    assert job == {**asked, "runtime": "30:00", "reservation": "(null)"}
    # Nothing chosen: what was accepted last, as ever.
    assert await started(site, "bob", {}) == job
    plain = await started(site, "ada", {"profile": "mine", "runtime": "10"})
    assert (plain["slurm_account"], plain["runtime"]) == (LAB, "10:00")
    assert plain["partition"] != PARTITION


REFUSED = [
    ("ada", {"slurm_account": BEAM}, f'"{BEAM}" is not a SLURM account that you may use. Allowed: {LAB}.'),
    ("ada", {"partition": PARTITION}, f'"{PARTITION}" is not a partition that you may use.'),
    ("ada", {"qos": FAST}, f'"{FAST}" is not a QOS that you may use. Allowed: normal.'),
    ("bob", {"partition": PARTITION}, f'"{PARTITION}" cannot be used together with your default slurm_account {LAB}.'),
    (
        "bob",
        {"runtime": "3-00:00:00", "partition": PARTITION, "slurm_account": BEAM},
        f'"3-00:00:00" is more than the 01:00:00 of partition {PARTITION}; choose at most that, or ask',
    ),
    (
        "bob",
        {"runtime": "50", "qos": FAST},
        f'"50" is more than the 00:40:00 of QOS {FAST}; choose at most that, or ask',
    ),
    ("bob", {"reservation": "none-such"}, '"none-such" is not a reservation that you may use.'),
    ("bob", {"qos": "x\n#SBATCH -A root"}, '"x\\n#SBATCH -A root" cannot be used: a name has letters'),
]
"""Who, what she asks for with the field that is refused first, and the words behind its name."""


async def test_what_is_not_hers_is_refused_by_rest(site: SlurmSite) -> None:
    for name, asked, words in REFUSED:
        status, said = await refused(site, name, {"profile": "mine", **asked})
        assert (status, said[: len(words) + len(next(iter(asked))) + 2]) == (400, f"{next(iter(asked))}: {words}")


async def test_who_leaves_no_choice_takes_none(site: SlurmSite) -> None:
    status, said = await refused(site, "bob", {"profile": "plain", "qos": FAST})
    assert (status, said) == (400, "qos: profile Plain has no such option; it has no options.")


async def test_the_form_offers_what_is_hers(site: SlurmSite) -> None:
    bobs, adas = await site.page("bob", "/hub/spawn"), await site.page("ada", "/hub/spawn")
    for page in (bobs, adas):
        assert 'name="profile-option-mine--runtime"' in page
        assert f'<option value="{LAB}"' in page
        assert 'id="daas-availability-plain"' in page
        assert "at most " in page.split('name="profile-option-mine--runtime"')[1].split("</div>")[0].lower()
    assert f'<option value="{BEAM}"' in bobs
    assert f'<option value="{PARTITION}"' in bobs
    assert f'<option value="{FAST}">{FAST}: at most 00:40:00' in bobs
    assert f"With QOS {FAST} at most 00:40:00." in bobs
    for field, value in (("slurm_account", BEAM), ("partition", PARTITION), ("qos", FAST)):
        assert f'value="{value}"' not in adas.split(f'name="profile-option-mine--{field}"')[1].split("</select>")[0]


@newer_when_long
async def test_a_project_is_charged_to_its_account(site: SlurmSite) -> None:
    ledger, now = site.ledger(), datetime.now(UTC)
    try:
        ledger.projects.set("p-beam", by="test", now=now, title="Beamtime")
        ledger.projects.set("p-free", by="test", now=now)
        for name in ("ada", "bob"):
            account = ledger.accounts.by_user_name(name)
            assert account is not None
            for project in ("p-beam", "p-free"):
                ledger.projects.add_member(project, account.id, by="test", now=now)
        ledger.projects.set("p-past", by="test", now=now, ends_at=now)
    finally:
        ledger.close()
    assert (await started(site, "bob", {"profile": "plain", "project": "p-beam"}))["slurm_account"] == BEAM
    assert site.launches()[0].project == "p-beam"
    assert (await started(site, "bob", {"profile": "plain", "project": "p-free"}))["slurm_account"] == LAB
    status, said = await refused(site, "ada", {"profile": "plain", "project": "p-beam"})
    assert status == 400
    assert said.startswith(f'project: "p-beam" is charged to the SLURM account "{BEAM}", which ada may not use.')
    status, said = await refused(site, "ada", {"profile": "plain", "project": "p-past"})
    assert status == 403
    assert said.startswith('project: "p-past" is not a project that you are a member of now. Yours: p-beam, p-free.')
    status, said = await refused(site, "bob", {"profile": "mine", "project": "p-beam", "slurm_account": LAB})
    assert said.startswith(
        f'slurm_account: "{LAB}" cannot be chosen for project "p-beam", which is charged to "{BEAM}"'
    )
    assert '<option value="p-beam">Beamtime (p-beam)</option>' in await site.page("bob", "/hub/spawn")


async def test_without_the_accounting_nothing_is_refused_and_its_age_is_told(site: SlurmSite) -> None:
    with site.cluster.without_database():
        # Refused by what was known, asked anew, and left to SLURM: its controller still knows who may what.
        _, said = await refused(site, "ada", {"profile": "mine", "slurm_account": BEAM})
        assert "may use" not in said
        page = await site.page("ada", "/hub/spawn")
        assert "because the cluster does not tell just now" in page
    await until(lambda: all(each.state is LaunchState.ENDED for each in site.launches()), within_s=60, what="ended")
