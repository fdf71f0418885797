"""What ``daas-hub doctor`` says of a real cluster, and of one that has something wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.cli.doctor_slurm import slurm as looks
from daas_hub.cli.finding import Finding
from tests.servers.slurm import misled
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm.settings import PARTITIONS
from tests.servers.slurm_helper import PROGRAMS, Helper
from tests.servers.slurm_signer import Signer

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(name="slurm", scope="module")
def each_version(slurm_any: Slurm) -> Slurm:
    """One version after the other."""
    return slurm_any


def found(slurm: Slurm, folder: Path, **traits: Any) -> list[Finding]:
    if "helper" not in traits:
        # A new one has the usual settings.
        traits["helper"] = Helper(slurm).argv
    settings = {"runtime_dir": str(folder / "records"), "command_prefix": slurm.login()}
    return list(looks(SlurmBackend(**{**settings, **traits}), "slurm", 15))


@contextmanager
def partitions_down(slurm: Slurm) -> Iterator[None]:
    """Nobody's job starts anywhere."""
    for name in PARTITIONS:
        slurm.run("scontrol", "update", f"partitionname={name}", "state=down")
    try:
        yield
    finally:
        for name in PARTITIONS:
            slurm.run("scontrol", "update", f"partitionname={name}", "state=up")


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_a_cluster_that_is_as_it_must_be(slurm: Slurm, tmp_path: Path) -> None:
    findings = found(slurm, tmp_path)
    assert levels(findings) == ["ok"] * 8, findings
    said = "\n".join(finding.found for finding in findings)
    parts = ("squeue answers", "sbatch is there", "this clock and the controller's agree")
    for part in (*parts, "root is shown everybody's jobs", "cpu (", "gpu (", "sacct answers", "refuses whom"):
        assert part in said


def test_a_partition_that_a_profile_names_and_the_cluster_does_not_have(slurm: Slurm, tmp_path: Path) -> None:
    settings = {"runtime_dir": str(tmp_path / "records"), "command_prefix": slurm.login()}
    backend = SlurmBackend(**settings, helper=Helper(slurm).argv)
    (wrong,) = [one for one in looks(backend, "slurm", 15, {"cpu", "gpux"}) if one.level == "error"]
    assert "does not have: gpux; it has cpu" in wrong.found
    assert "slurm_override" in wrong.fix


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda slurm: misled.without_settings(slurm.world), "slurm.conf"),
        (lambda slurm: slurm.without_munge(), "start munged"),
        (lambda slurm: partitions_down(slurm), "scontrol update partitionname"),
        (lambda slurm: slurm.without_database(), "slurmdbd"),
    ],
    ids=["no configuration", "no munge", "no partition", "no accounting"],
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


def test_a_helper_whose_settings_name_no_sbatch(slurm: Slurm, tmp_path: Path) -> None:
    helper = Helper(slurm)
    helper.allow(programs=PROGRAMS | {"sbatch": "/usr/bin/no-such-sbatch"})
    try:
        (wrong,) = [finding for finding in found(slurm, tmp_path, helper=helper.argv) if finding.level == "error"]
    finally:
        helper.allow()
    assert "programs are absolute paths of programs" in wrong.found
    assert "with its settings" in wrong.fix


@pytest.mark.parametrize(
    ("program", "change", "words"),
    [
        ("sbatch", "s/ [0-9][0-9]/ 99/", ("newer than the controllers", "of the controllers' version")),
        ("scontrol", "s/as of .*/as of 1000000000/", ("ahead of the controller's", "chrony")),
    ],
)
def test_a_host_that_does_not_fit_its_cluster(
    slurm: Slurm, tmp_path: Path, program: str, change: str, words: tuple[str, str]
) -> None:
    """One program's answer is changed on its way."""
    script = f'if [ "$1" = {program} ]; then "$@" | sed "{change}"; else exec "$@"; fi'
    findings = found(slurm, tmp_path, command_prefix=[*slurm.login(), "sh", "-c", script, "sh"])
    (wrong,) = [finding for finding in findings if finding.level == "error"]
    assert words[0] in wrong.found
    assert words[1] in wrong.fix


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


def test_a_site_with_slurmrestd(slurm: Slurm, tmp_path: Path) -> None:
    """Signer and slurmrestd are looked at in the place of the helper, which is not there."""
    signer = Signer(slurm)
    rest = {"submit_by": "rest", "rest_url": slurm.rest_url, "signer": signer.argv, "helper": ["/nonexistent"]}
    findings = found(slurm, tmp_path, **rest)
    assert levels(findings) == ["ok"] * 7 + ["note", "ok"], findings
    assert "below port 1024" in findings[7].fix
    said = "\n".join(finding.found for finding in findings)
    assert "refuses whom it must" in said
    assert "without a token it says 401" in said
    nothing = found(slurm, tmp_path, **{**rest, "rest_url": "http://127.0.0.1:9", "signer": ["/nonexistent"]})
    fixes = [finding.fix for finding in nothing if finding.level == "error"]
    assert len(fixes) == 2
    assert "daas-hub slurm signer" in fixes[0]
    assert "SlurmBackend.rest_url" in fixes[1]
