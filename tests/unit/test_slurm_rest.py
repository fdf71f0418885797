"""Jobs for slurmrestd: what becomes of ``#SBATCH`` lines in each version, and what its errors mean."""

from __future__ import annotations

from typing import Any

import pytest

from daas_hub.clients.slurm_rest import refused
from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.slurm_rest import OLD, VERSIONS, RestJob, best, fields

NEW = VERSIONS[0]


def number(value: int) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value}


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [
        ("--partition=gpu", {"partition": "gpu"}, {"partition": "gpu"}),
        ("-p gpu -A lab", {"partition": "gpu", "account": "lab"}, {"partition": "gpu", "account": "lab"}),
        ("-pgpu", {"partition": "gpu"}, {"partition": "gpu"}),
        ("--job-name 'two words'", {"name": "two words"}, {"name": "two words"}),
        ("--time=1-02:30", {"time_limit": 1590}, {"time_limit": number(1590)}),
        # Never less than what was asked for.
        ("--time=0:30", {"time_limit": 1}, {"time_limit": number(1)}),
        ("--mem=4G", {"memory_per_node": 4096}, {"memory_per_node": number(4096)}),
        ("--mem=700", {"memory_per_node": 700}, {"memory_per_node": number(700)}),
        ("--mem=1k", {"memory_per_node": 1}, {"memory_per_node": number(1)}),
        ("--mem-per-cpu=1gb", {"memory_per_cpu": 1024}, {"memory_per_cpu": number(1024)}),
        ("-c 2 --ntasks=3", {"cpus_per_task": 2, "tasks": 3}, {"cpus_per_task": 2, "tasks": 3}),
        ("--nodes=1", {"nodes": [1, 1]}, {"nodes": "1"}),
        ("--gres=gpu:2,disk", {"gres": "gpu:2,disk"}, {"tres_per_node": "gres/gpu:2,gres/disk"}),
        ("--gpus=a:1", {"gpus": "a:1"}, {"tres_per_job": "gres/gpu:a:1"}),
        ("--gpus-per-node=1", {"gpus_per_node": "1"}, {"tres_per_node": "gres/gpu:1"}),
        ("--requeue", {"requeue": True}, {"requeue": True}),
        # What the hub sets itself; nothing is taken from the line.
        ("--output=x --comment=forged --export=ALL --chdir=/ --open-mode=append --get-user-env=L", {}, {}),
        ("--get-user-env --partition=a # --qos=b", {"partition": "a"}, {"partition": "a"}),
    ],
)
def test_a_line_becomes_fields(line: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    script = f"#!/bin/bash\n#SBATCH {line}\n"
    assert (fields(script, OLD), fields(script, NEW)) == (old, new)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--array=1-3", "--array cannot be told"),
        ("--uid=root", "--uid cannot be told"),
        ("--part=gpu", "--part cannot be told"),
        ("-x node1", "'-x' cannot be told"),
        ("gpu", "'gpu' cannot be told"),
        ("--partition", "has no value"),
        ("--time=soon", "no walltime"),
        ("--mem=much", "--mem=much cannot be read"),
        ("--ntasks=-1", "cannot be read"),
        ("--nodes=1-3", "cannot be read"),
    ],
)
def test_a_line_without_a_field_is_refused(line: str, said: str) -> None:
    """Nothing that a site has written is left out in silence."""
    for version in VERSIONS:
        with pytest.raises(ValueError, match=said):
            fields(f"#!/bin/bash\n#SBATCH {line}\n", version)


def test_what_22_05_does_not_do_is_refused_there() -> None:
    script = "#!/bin/sh\n#SBATCH --no-requeue\n"
    assert fields(script, NEW) == {"requeue": False}
    with pytest.raises(ValueError, match="--no-requeue cannot be told"):
        fields(script, OLD)


def test_what_is_ours_wins_over_the_script() -> None:
    script = "#!/bin/bash\n#SBATCH --job-name=theirs --comment=forged --partition=a\ntrue\n#SBATCH --partition=late\n"
    job = RestJob(script, "ours", "daas:hub:1", "/home/ada", {"PATH": "/bin", "HOME": "/home/ada"})
    old, new = job.body(OLD), job.body(NEW)
    same = {
        "name": "theirs",
        "comment": "daas:hub:1",
        "current_working_directory": "/home/ada",
        "standard_output": "/dev/null",
        "partition": "a",
    }
    assert old == {"script": script, "job": {**same, "environment": {"PATH": "/bin", "HOME": "/home/ada"}}}
    assert new == {"job": {**same, "script": script, "environment": ["PATH=/bin", "HOME=/home/ada"]}}


def test_the_best_version_that_both_know() -> None:
    paths = [f"/slurm/v0.0.{number}/job/submit" for number in (37, 38, 40, 42, 99)]
    assert best(["/slurmdb/v0.0.42/jobs/", *paths]) == "v0.0.42"
    assert best(paths[:2]) == OLD
    assert best(paths[:1]) is None


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        # 24.11, and without a token; 22.05's words are those of a lost connection.
        (511, "Protocol authentication error", "token"),
        (401, "", "token"),
        (500, "Unable to contact slurm controller (connect failure)", "refused"),
        (502, "Unable to contact slurm controller (connect failure)", "refused"),
        (500, "Socket timed out on send/recv operation", "unsure"),
        (502, "Zero Bytes were transmitted or received", "unsure"),
        (504, "", "unsure"),
        (404, "", "version"),
    ],
)
def test_no_answer_is_not_a_refusal(status: int, said: str, reason: str) -> None:
    error = refused(status, said)
    assert isinstance(error, BackendUnavailable)
    assert error.reason == reason


def test_a_refusal_is_permanent_and_has_slurms_words() -> None:
    error = refused(500, "Invalid account or account/partition combination specified")
    assert isinstance(error, StartFailed)
    assert error.permanent
    assert "Invalid account" in error.message
