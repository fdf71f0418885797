"""Our script and launcher on a real cluster: the server runs as its account, is found, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daas_hub.core.models import Resources
from tests.servers.slurm.plain import TOKEN, Ear, ear, spec_of, submit
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(180)]


@pytest.fixture
def heard() -> Iterator[Ear]:
    with ear() as one:
        yield one


@pytest.mark.parametrize("partition", ["cpu", "gpu"])
async def test_a_server_runs_as_its_account_on_the_node_and_reports_its_port(
    slurm: Slurm, heard: Ear, partition: str
) -> None:
    spec = spec_of(slurm, override={"slurm": {"partition": partition}}, resources=Resources(cpu_limit=2))
    job = await submit(slurm, spec, heard)
    said = job.answers(heard)
    env = said["environment"]
    assert said["resuid"] == [PEOPLE["ada"]] * 3
    assert said["resgid"] == [LAB_GID] * 3
    assert (env["HOME"], env["USER"], env["LOGNAME"], said["cwd"]) == (spec.account.home, "ada", "ada", env["HOME"])
    assert heard.heard[0][0]["Authorization"] == f"token {TOKEN}"
    job.cancel()
