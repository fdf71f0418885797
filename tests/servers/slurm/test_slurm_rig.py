"""The tests' SLURM cluster is a real one: people, accounting, two controllers, REST, faults and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.servers.reachable_python import singleuser
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Refused, Slurm
from tests.servers.slurm.world import remove_left_over

pytestmark = pytest.mark.timeout(120)
UNTIL_TOLD = "until [ -e go ]; do sleep 0.1; done"


def account_of(slurm: Slurm, job: str, *fields: str) -> list[str]:
    """What sacct has of a job's allocation, once it has its end."""

    def ended() -> list[str] | None:
        words = ["--noheader", "--parsable2", "--allocations", f"--format=End,{','.join(fields)}"]
        row = slurm.run("sacct", f"--jobs={job}", *words).strip().split("|")
        return row[1:] if row[0] not in ("", "Unknown") else None

    found: list[str] = slurm.until(ended, what=f"sacct has the end of job {job}")
    return found


@pytest.fixture(name="slurm")
def each_version(slurm_any: Slurm) -> Slurm:
    """All tests here run on both."""
    return slurm_any


@pytest.fixture
def waiting_job(slurm: Slurm) -> str:
    """A job of ada's that runs until somebody makes the file ``go`` in her home."""
    go = slurm.homes / "ada" / "go"
    go.unlink(missing_ok=True)
    job = slurm.submit(UNTIL_TOLD)
    slurm.in_state(job, "RUNNING")
    return job


def let_end(slurm: Slurm, job: str) -> None:
    (slurm.homes / "ada" / "go").touch()
    slurm.in_state(job, "COMPLETED")


def test_a_job_is_its_users(slurm: Slurm) -> None:
    slurm.add_group("beam", 30002, "bob")
    job = slurm.submit("id -u; id -G; hostname; pwd; sleep 1; exit 7", "--output=said", "--time=5", user="bob")
    seen = slurm.in_state(job, "FAILED")
    said = slurm.homes / "bob" / "said"
    # Other tests of this cluster may have put him into groups of theirs.
    groups = slurm.run("id", "-G", "bob").strip()
    assert {str(LAB_GID), "30002"} <= set(groups.split())
    assert said.stat().st_uid == PEOPLE["bob"]
    assert said.stat().st_gid == LAB_GID
    uid, gids, host, folder = said.read_text().split("\n")[:-1]
    assert (uid, host, folder) == (str(PEOPLE["bob"]), "cpu1", str(slurm.homes / "bob"))
    assert sorted(gids.split()) == sorted(groups.split())
    assert (seen["user_name"], seen["partition"], seen["time_limit"]) == ("bob", "cpu", 5)
    user, account, code, elapsed = account_of(slurm, job, "User", "Account", "ExitCode", "ElapsedRaw")
    assert (user, account, code) == ("bob", "lab", "7:0")
    assert int(elapsed) >= 1


def test_nodes_run_the_tests_own_environment(slurm: Slurm) -> None:
    python = Path(singleuser()).with_name("python")
    script = "import importlib.metadata, sqlite3, ssl; print(importlib.metadata.version('jupyterhub'))"
    job = slurm.submit(f'{python} -c "{script}" && /usr/bin/python3 -I -S -c "import ssl"', "--output=version")
    assert slurm.in_state(job, "COMPLETED", "FAILED")["job_state"] == "COMPLETED"
    assert (slurm.homes / "ada" / "version").read_text().strip() == version("jupyterhub")


def test_gpus_are_counted(slurm: Slurm) -> None:
    job = slurm.submit("hostname; echo $CUDA_VISIBLE_DEVICES", "--output=gpu", "--partition=gpu", "--gres=gpu:1")
    slurm.in_state(job, "COMPLETED")
    assert (slurm.homes / "ada" / "gpu").read_text() == "gpu1\n0\n"
    allocated = account_of(slurm, job, "AllocTRES")[0].split(",")
    assert {"cpu=1", "gres/gpu=1", "mem=100M", "node=1"} <= set(allocated)
    with pytest.raises(Refused, match="configuration is not available"):
        slurm.submit("true", "--partition=gpu", "--gres=gpu:3")


def test_accounts_and_partitions(slurm: Slurm) -> None:
    told = slurm.run("sacctmgr", "--noheader", "--parsable2", "show", "associations", "user=ada", "format=account,user")
    assert told.split() == ["lab|ada"]
    assert "Nodes=gpu1" in slurm.run("scontrol", "show", "partition", "gpu")
    slurm.add_person("gus", 20010, account="")
    with pytest.raises(Refused, match="Invalid account"):
        slurm.submit("true", user="gus")
    too_long = slurm.submit("true", "--time=2-0")
    slurm.until(lambda: slurm.job(too_long)["state_reason"] == "PartitionTimeLimit", what="it waits for ever")
    slurm.run("scancel", too_long)


def test_the_second_controller_takes_over(slurm: Slurm, waiting_job: str) -> None:
    slurm.wait_saved(waiting_job)
    with slurm.without_first_controller():
        slurm.until(lambda: slurm.job(waiting_job)["job_state"] == "RUNNING", what="the second controller answers")
        assert "ctl1 is DOWN" in slurm.run("scontrol", "ping")
        other = slurm.submit("true")
        slurm.in_state(other, "COMPLETED")
        slurm.wait_saved(waiting_job)
    seen = slurm.job(waiting_job)
    assert (seen["job_state"], seen["restart_cnt"]) == ("RUNNING", 0)
    assert slurm.job(other)["job_state"] == "COMPLETED"
    let_end(slurm, waiting_job)


def test_suspend_requeue_and_a_node_that_is_down(slurm: Slurm, waiting_job: str) -> None:
    slurm.run("scontrol", "suspend", waiting_job)
    slurm.in_state(waiting_job, "SUSPENDED")
    slurm.run("scontrol", "resume", waiting_job)
    slurm.in_state(waiting_job, "RUNNING")
    slurm.run("scontrol", "requeuehold", waiting_job)
    # Before that it is COMPLETING, and what is changed then is lost.
    assert slurm.in_state(waiting_job, "PENDING")["state_reason"] == "JobHeldUser"
    slurm.run("scontrol", "release", waiting_job)
    # By itself a requeued job starts again only two minutes later.
    slurm.run("scontrol", "update", f"jobid={waiting_job}", "starttime=now")
    assert slurm.in_state(waiting_job, "RUNNING")["restart_cnt"] == 1
    with slurm.lost_node("cpu1"):
        slurm.until(lambda: slurm.job(waiting_job)["restart_cnt"] == 2, what="it is requeued from the lost node")
        slurm.run("scancel", waiting_job)
        slurm.in_state(waiting_job, "CANCELLED")


def test_a_queue_tells_when(slurm: Slurm) -> None:
    first = slurm.submit("sleep 300", "--exclusive", "--partition=gpu", "--time=10")
    slurm.in_state(first, "RUNNING")
    second = slurm.submit("true", "--exclusive", "--partition=gpu", "--time=10", user="bob")
    slurm.until(lambda: slurm.job(second)["state_reason"] in ("Resources", "Priority"), what="it waits for the other")
    start = slurm.run("squeue", "--start", "--noheader", f"--jobs={second}", "--format=%S")
    slurm.until(lambda: slurm.job(second)["start_time"] > slurm.job(first)["start_time"], what=f"an estimate: {start}")
    done = slurm.ask("sbatch", "--test-only", "--partition=gpu", "--exclusive", "--wrap=true", user="ada")
    assert "to start at" in done.stderr
    slurm.run("scancel", first, second)
    slurm.in_state(first, "CANCELLED")


def test_rest_takes_a_token_and_nothing_else(slurm: Slurm) -> None:
    interface = "v0.0.38" if slurm.version == (22, 5) else "v0.0.42"

    def ask(path: str, job: object = None, **headers: str) -> dict[str, Any]:
        body = json.dumps(job).encode() if job else None
        headers = {
            "Content-Type": "application/json",
            **{f"X-SLURM-USER-{key}": value for key, value in headers.items()},
        }
        request = urllib.request.Request(f"{slurm.rest_url}/slurm/{interface}/{path}", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        assert not found["errors"], found
        return found

    token = slurm.token("ada")
    home = str(slurm.homes / "ada")
    script, job = "#!/bin/sh\nid -u > rest\n", {"name": "rest", "current_working_directory": home}
    whole: dict[str, Any] = {"script": script, "job": {**job, "environment": {"PATH": "/usr/bin:/bin"}}}
    if slurm.version > (22, 5):
        whole = {"job": {**job, "script": script, "environment": ["PATH=/usr/bin:/bin"]}}
    submitted = str(ask("job/submit", whole, NAME="ada", TOKEN=token)["job_id"])
    slurm.in_state(submitted, "COMPLETED")
    assert (slurm.homes / "ada" / "rest").read_text() == f"{PEOPLE['ada']}\n"
    seen = ask("jobs", NAME="ada", TOKEN=token)["jobs"]
    assert submitted in {str(one["job_id"]) for one in seen}
    # A wrong token passes slurmrestd and is refused by the controller: not 401.
    refused = 500 if slurm.version == (22, 5) else 511
    forged = f"{token[:-3]}abc"
    for code, headers in (
        (401, {}),
        (refused, {"NAME": "bob", "TOKEN": token}),
        (refused, {"NAME": "ada", "TOKEN": forged}),
        (refused, {"NAME": "ada", "TOKEN": ""}),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask("job/submit", whole, **headers)
        assert caught.value.code == code
        caught.value.close()
    assert len(ask("jobs", NAME="ada", TOKEN=token)["jobs"]) == len(seen)
    with pytest.raises(Refused, match="Invalid user id"):
        slurm.run("scontrol", "token", "username=bob", user="ada")


def test_sudo(slurm: Slurm) -> None:
    slurm.add_person("gateway", 20100, account="")
    with pytest.raises(Refused, match="password is required"):
        slurm.run("sudo", "-n", "-u", "ada", "sbatch", "--version", user="gateway")
    slurm.allow_sudo("gateway", "gateway ALL=(%lab) NOPASSWD: /usr/bin/sbatch")
    words = ["sudo", "-n", "-u", "ada", "sbatch", "--parsable", f"--chdir={slurm.homes / 'ada'}", "--output=sudo"]
    job = slurm.run(*words, "--wrap=id -un", user="gateway").strip()
    slurm.in_state(job, "COMPLETED")
    assert (slurm.homes / "ada" / "sudo").read_text() == "ada\n"


def test_controllers_that_refuse(slurm: Slurm, waiting_job: str) -> None:
    with slurm.refused():
        # Each tries for nine seconds before it gives up.
        with ThreadPoolExecutor() as pool:
            plain = pool.submit(slurm.ask, "squeue", within_s=90)
            as_json = pool.submit(slurm.ask, "squeue", "--json", within_s=90)
        assert plain.result().returncode != 0
        assert "Unable to contact slurm controller" in plain.result().stderr
        if slurm.version == (22, 5):
            # It calls this a success: an empty list of jobs, and an error beside it.
            assert as_json.result().returncode == 0
            answer = json.loads(as_json.result().stdout)
            assert answer["jobs"] == []
            assert answer["errors"]
        else:
            assert as_json.result().returncode == 1
            assert not as_json.result().stdout
    let_end(slurm, waiting_job)


def test_controllers_that_say_nothing(slurm: Slurm, waiting_job: str) -> None:
    """An sbatch that got no answer was heard all the same: its job is there when the controllers go on."""
    with slurm.silent():
        with pytest.raises(subprocess.TimeoutExpired):
            slurm.ask("squeue", within_s=1)
        words = ["sbatch", "--comment=unanswered", f"--chdir={slurm.homes / 'ada'}", "--wrap=true"]
        with pytest.raises(subprocess.TimeoutExpired):
            slurm.ask(*words, user="ada", within_s=1)
    comments = ["squeue", "--noheader", "--states=all", "--format=%k"]
    slurm.until(lambda: "unanswered" in slurm.run(*comments).split(), what="the job is there")
    let_end(slurm, waiting_job)


def test_programs_that_are_misled(slurm: Slurm, waiting_job: str) -> None:
    with slurm.reset(), pytest.raises(Refused, match=r"Connection reset by peer|Zero Bytes were transmitted"):
        slurm.run("squeue")
    # It tries for 10 s (22.05) or 29 s (24.11), and sbatch for minutes; the first words come at once.
    with slurm.unresolved(), pytest.raises(subprocess.TimeoutExpired) as caught:
        slurm.ask("squeue", within_s=1)
    assert b"Temporary failure in name resolution" in caught.value.stderr
    assert slurm.job(waiting_job)["job_state"] == "RUNNING"
    let_end(slurm, waiting_job)


def test_no_munge_no_settings_no_database(slurm: Slurm, waiting_job: str) -> None:
    with slurm.without_munge(), pytest.raises(Refused, match="Munge encode failed"):
        slurm.run("squeue")
    with slurm.without_settings(), pytest.raises(Refused, match="Could not establish a configuration source"):
        slurm.run("squeue")
    with slurm.without_database():
        with pytest.raises(Refused, match="Connection refused"):
            slurm.run("sacct")
        let_end(slurm, waiting_job)
    assert account_of(slurm, waiting_job, "State") == ["COMPLETED"]


def test_this_machine_stays_as_it_is(slurm: Slurm) -> None:
    assert slurm.run("id", "-u", "ada").strip() == str(PEOPLE["ada"])
    assert "slurmrest:" not in Path("/etc/passwd").read_text()
    assert not Path("/etc/slurm/slurm.conf").exists()


KILLED = """
import subprocess
from tests.servers.slurm.world import World
world = World(("login",))
world.start()
inside = subprocess.Popen([*world.enter(), "sleep", "1000"], stdout=subprocess.DEVNULL)
print(world.init, world.root, flush=True)
inside.wait()
"""


def test_it_ends_with_who_started_it(slurm: Slurm) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            init, root = process.stdout.readline().split()
        finally:
            process.send_signal(signal.SIGKILL)
    slurm.until(lambda: not Path(f"/proc/{init}").exists(), what="its first process is gone")
    assert Path(root).exists()
    os.utime(root, (0, 0))
    remove_left_over()
    assert not Path(root).exists()
    assert slurm.root.exists()
