"""What ``daas-hub doctor`` says of a real cluster, and of one that has something wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.cli.doctor_slurm import slurm as looks
from daas_hub.cli.finding import Finding
from tests.servers.slurm import misled
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_helper import Helper

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(120)]


def found(slurm: Slurm, folder: Path, **traits: Any) -> list[Finding]:
    settings = {"runtime_dir": str(folder / "records"), "helper": Helper(slurm).argv, "command_prefix": slurm.login()}
    return list(looks(SlurmBackend(**{**settings, **traits}), "slurm", 15))


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_a_cluster_that_is_as_it_must_be(slurm: Slurm, tmp_path: Path) -> None:
    findings = found(slurm, tmp_path)
    assert levels(findings) == ["ok"] * 6, findings
    said = "\n".join(finding.found for finding in findings)
    for part in ("squeue answers", "root is shown everybody's jobs", "cpu (", "gpu (", "sacct answers", "refuses whom"):
        assert part in said


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda slurm: misled.without_settings(slurm.world), "slurm.conf"),
        (lambda slurm: slurm.without_database(), "slurmdbd"),
    ],
    ids=["no configuration", "no accounting"],
)
def test_what_is_wrong_is_named_with_who_mends_it(
    slurm: Slurm, tmp_path: Path, fault: Callable[[Slurm], AbstractContextManager[None]], words: str
) -> None:
    with fault(slurm):
        findings = found(slurm, tmp_path)
    (wrong, *_) = [finding for finding in findings if finding.level != "ok"]
    assert words in wrong.fix, findings


def test_a_helper_that_is_not_there_or_not_allowed(slurm: Slurm, tmp_path: Path) -> None:
    nowhere = found(slurm, tmp_path, helper=["/usr/local/sbin/no-such-helper"])
    (wrong,) = [finding for finding in nowhere if finding.level == "error"]
    assert "daas-hub slurm helper" in wrong.fix
    as_ada = [*slurm.login("ada"), "sudo", "-n", str(Helper(slurm).path)]
    (wrong,) = [finding for finding in found(slurm, tmp_path, helper=as_ada) if finding.level == "error"]
    assert "daas-hub slurm sudoers" in wrong.fix


def test_programs_that_are_not_installed(slurm: Slurm, tmp_path: Path) -> None:
    findings = found(slurm, tmp_path, command_prefix=["/no/such/wrapper"])
    assert findings[0].level == "error"
    assert "slurm-client" in findings[0].fix


async def test_who_is_not_shown_everybodys_jobs_believes_no_end(slurm: Slurm, tmp_path: Path) -> None:
    """With PrivateData the controller says "Invalid job id" of jobs that run."""
    backend = SlurmBackend(runtime_dir=str(tmp_path / "r"), helper=Helper(slurm).argv, command_prefix=slurm.login())
    shown = {"all": False}

    async def sees(user: str) -> bool:
        return shown["all"]

    backend._tools.slurm.sees_all_jobs = sees  # type: ignore[method-assign]
    handle = {
        "backend": "slurm", "version": 1, "launch_id": "l1", "hub_id": "hub", "name": "ada", "uid": 20001, "gid": 1,
        "home": "/", "service_prefix": "/user/ada/", "tls": False, "asked_at": 1.0, "job_id": 999_999,
    }  # fmt: skip
    seen = await backend.inspect(handle)
    assert (seen.life.value, "PrivateData" in seen.reason) == ("unknown", True)
    shown["all"] = True
    assert (await backend.inspect(handle)).life.value == "ended"
    await backend.close()
    await asyncio.sleep(0)
