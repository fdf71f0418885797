"""An unprivileged hub on a real cluster submits, cancels and probes as somebody else: daas-runas through real sudo."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from daas_hub.clients.as_user import Probe
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.naming import new_id
from tests.servers.slurm.daemons import PATH
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.servers.slurm.settings import LOGIN
from tests.servers.slurm_helper import HUB, PROGRAMS, REQUEST, Helper
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(120)]
ADA = str(PEOPLE["ada"])
UNTIL_ENDED = "#!/bin/sh\nsleep 1000\n"
EXTRA_GID = 30033


@pytest.fixture
def helper(slurm: Slurm) -> Iterator[Helper]:
    helper = Helper(slurm)
    yield helper
    helper.allow()
    for name in ("ada", "bob"):
        shutil.rmtree(slurm.homes / name / ".daas", ignore_errors=True)


@pytest.fixture
def launch_id() -> str:
    return new_id()


def folder_of(helper: Helper, launch_id: str, name: str = "ada") -> Path:
    return helper.slurm.homes / name / ".daas" / launch_id


async def test_a_job_of_hers(slurm_any: Slurm, launch_id: str) -> None:
    """Uid, all groups, home, files of hers alone; and what the helper owns is not the script's to say."""
    helper, home = Helper(slurm_any), slurm_any.homes / "eve"
    if "extra" not in slurm_any.run("getent", "group"):
        slurm_any.add_group("extra", EXTRA_GID, "eve")
    eve, uid = helper.account("eve"), PEOPLE["eve"]
    helper.allow(denied=[])
    script = "#!/bin/sh\n#SBATCH --comment=daas:lab:forged --output=/dev/null --chdir=/tmp --export=ALL\n"
    script += f"id -u; id -G; pwd; cat .daas/{launch_id}/launch.json; exit 3\n"
    files = {"launch.py": "print()\n", "launch.json": '{"é": 1}\n'}
    job = await helper.as_user.submit(eve, hub_id="lab", launch_id=launch_id, script=script, files=files, within_s=30)
    seen = slurm_any.in_state(str(job), "FAILED")
    assert (seen["user_name"], seen["comment"]) == ("eve", f"daas:lab:{launch_id}")
    folder = folder_of(helper, launch_id, "eve")
    assert (folder / "log").read_text() == f"{uid}\n{LAB_GID} {EXTRA_GID}\n{home}\n{files['launch.json']}"
    assert {path.name for path in folder.iterdir()} == {*files, "log"}
    for path, mode in ((folder.parent, 0o700), (folder, 0o700), *((path, 0o600) for path in folder.iterdir())):
        about = path.lstat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (uid, LAB_GID, mode), path
    probe = await helper.as_user.probe(eve, launch_id=launch_id, log_bytes=10, within_s=30)
    assert probe == Probe(uid, LAB_GID, (LAB_GID, EXTRA_GID), str(home), '{"é": 1}\n', "")
    # Who looks for it by its comment finds it; it has ended, and nothing is left to cancel.
    assert helper.jobs(launch_id) == [str(job)]
    other = folder_of(helper, "other", "eve")
    other.mkdir()
    await helper.as_user.cancel(eve, launch_id=launch_id, job_id=job, clean=True, within_s=30)
    assert list(folder.parent.iterdir()) == [other]
    shutil.rmtree(folder.parent)
    helper.allow()


async def test_a_job_is_cancelled_by_its_owner_alone(slurm: Slurm, helper: Helper, launch_id: str) -> None:
    bob, ada = helper.account("bob"), helper.account()
    job = await helper.as_user.submit(
        bob, hub_id="lab", launch_id=launch_id, script=UNTIL_ENDED, files={"a": "b"}, within_s=30
    )
    slurm.in_state(str(job), "RUNNING")
    with pytest.raises(BackendUnavailable) as caught:
        await helper.as_user.cancel(ada, launch_id=launch_id, job_id=job, clean=True, within_s=30)
    assert caught.value.reason == "not_cancelled"
    assert slurm.job(str(job))["job_state"] == "RUNNING"
    assert (folder_of(helper, launch_id, "bob") / "a").exists()
    await helper.as_user.cancel(bob, launch_id=launch_id, job_id=job, clean=False, within_s=30)
    slurm.in_state(str(job), "CANCELLED")
    assert (folder_of(helper, launch_id, "bob") / "a").exists()
    for times in range(2):
        # An ended job, a removed folder: all is as it should be already.
        await helper.as_user.cancel(bob, launch_id=launch_id, job_id=job, clean=True, within_s=30)
        assert not folder_of(helper, launch_id, "bob").exists(), times
    await helper.as_user.cancel(bob, launch_id=launch_id, job_id=4_000_000_000, clean=True, within_s=30)


async def test_cancel_removes_a_link_and_not_what_it_leads_to(helper: Helper, launch_id: str) -> None:
    daas, kept = folder_of(helper, launch_id).parent, helper.slurm.homes / "ada" / "kept"
    daas.mkdir(mode=0o700, exist_ok=True)
    kept.mkdir()
    (kept / "file").touch()
    for path in (kept, kept / "file", daas):
        os.chown(path, PEOPLE["ada"], LAB_GID)
    (daas / launch_id).symlink_to(kept)
    await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=30)
    assert not (daas / launch_id).is_symlink()
    assert (kept / "file").exists()
    shutil.rmtree(kept)


async def test_sbatch_refuses(slurm_any: Slurm, launch_id: str) -> None:
    """In sbatch's own words, for good, and nothing is left."""
    helper = Helper(slurm_any)
    for options, words in (
        ("--account=nosuch", "Invalid account or account/partition combination specified"),
        ("--partition=nosuch", "invalid partition specified: nosuch"),
        ("--nosuch", "unrecognized option"),
    ):
        with pytest.raises(StartFailed) as caught:
            await helper.as_user.submit(
                helper.account(), hub_id="lab", launch_id=launch_id, within_s=30, files={"a": "b"},
                script=f"#!/bin/sh\n#SBATCH {options}\ntrue\n",
            )  # fmt: skip
        assert (caught.value.permanent, caught.value.reason) == (True, "slurm_refused")
        assert words in caught.value.message
        assert not folder_of(helper, launch_id).exists()
    assert helper.jobs(launch_id) == []


async def test_no_name_server_is_asked_for_the_hosts_own_name(slurm_any: Slurm, launch_id: str) -> None:
    """Where /etc/hosts lacks it, Debian's sudo would: each call would wait for one that says nothing."""
    helper, address = Helper(slurm_any), slurm_any.addresses[LOGIN]
    hosts, servers = slurm_any.world.etc / "hosts", slurm_any.world.etc / "resolv.conf"
    before = hosts.read_text(), servers.read_text()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((address, 53))
        silent.setblocking(False)
        try:
            # Written in place: they are bound over the machine's.
            hosts.write_text(re.sub(rf"^.* {LOGIN}$", "", before[0], flags=re.MULTILINE))
            servers.write_text(f"nameserver {address}\n")
            await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=30)
            assert not asked_for(silent, LOGIN)
            with subprocess.Popen([*slurm_any.login(HUB), "getent", "ahosts", LOGIN]) as asking:
                await until(lambda: asked_for(silent, LOGIN), what="the name server hears of who asks")
                asking.kill()
        finally:
            hosts.write_text(before[0])
            servers.write_text(before[1])


def asked_for(server: socket.socket, name: str) -> bool:
    """Whether one of the questions that have come is for this name; others run in the cluster, too."""
    wanted = bytes([len(name)]) + name.encode()
    with suppress(BlockingIOError):
        while True:
            if wanted in server.recv(4096):
                return True
    return False


async def test_probe_tells_what_sbatch_would_do(slurm_any: Slurm, launch_id: str) -> None:
    helper = Helper(slurm_any)
    daas = folder_of(helper, launch_id).parent
    before = daas.exists()
    probe = await helper.as_user.probe(helper.account(), test_script=REQUEST["script"] + "true\n", within_s=30)
    assert "to start at" in probe.test
    assert "in partition cpu" in probe.test
    assert (probe.uid, probe.home, probe.log) == (PEOPLE["ada"], str(slurm_any.homes / "ada"), None)
    script = "#!/bin/sh\n#SBATCH --gres=gpu:9 --partition=gpu\ntrue\n"
    refused = await helper.as_user.probe(helper.account(), launch_id=launch_id, test_script=script, within_s=30)
    assert "Requested node configuration is not available" in refused.test
    assert refused.log is None
    assert daas.exists() is before


async def test_a_log_that_is_no_file(helper: Helper, launch_id: str) -> None:
    """What stands where the log should be is not followed, and nothing waits for it."""
    folder = folder_of(helper, launch_id)
    folder.mkdir(mode=0o700, parents=True)
    os.chown(folder, PEOPLE["ada"], LAB_GID)
    os.chown(folder.parent, PEOPLE["ada"], LAB_GID)
    log = folder / "log"
    for make in (lambda: log.symlink_to("/etc/passwd"), lambda: os.mkfifo(log), lambda: log.mkdir()):
        make()  # type: ignore[no-untyped-call]
        os.chown(log, PEOPLE["ada"], LAB_GID, follow_symlinks=False)
        with pytest.raises(StartFailed) as caught:
            await helper.as_user.probe(helper.account(), launch_id=launch_id, log_bytes=100, within_s=30)
        assert caught.value.reason == "home"
        if log.is_dir():
            log.rmdir()
        else:
            log.unlink()
    await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=30)


async def test_an_account_that_differs(helper: Helper, launch_id: str) -> None:
    for account, words in (
        (helper.account(uid=PEOPLE["bob"]), f"ada is uid {ADA} on this host, not uid {PEOPLE['bob']}"),
        (helper.account("eve"), "is denied by"),
        (helper.account("root"), "0 is root's"),
    ):
        with pytest.raises(AccountRefused) as caught:
            await helper.as_user.submit(
                account, hub_id="lab", launch_id=launch_id, script=UNTIL_ENDED, files={}, within_s=30
            )
        assert words in caught.value.message
    assert helper.jobs(launch_id) == []


async def test_a_second_submission_writes_a_new_folder(slurm: Slurm, helper: Helper, launch_id: str) -> None:
    """Whoever asks twice, having looked for a job first, gets a second job: no file of the first attempt is left."""
    jobs = []
    script = "#!/bin/sh\n#SBATCH --hold --open-mode=truncate\necho after\n"
    for number in (1, 2):
        job = await helper.as_user.submit(
            helper.account(), hub_id="lab", launch_id=launch_id, script=script, within_s=30,
            files={"both": str(number), f"only{number}": ""},
        )  # fmt: skip
        jobs.append(str(job))
        folder = folder_of(helper, launch_id)
        assert {path.name for path in folder.iterdir()} == {"both", f"only{number}", "log"}
        assert (folder / "both").read_text() == str(number)
        assert helper.jobs(launch_id) == jobs
    # A job that begins again, after a requeue, keeps what it has said.
    (folder / "log").write_text("before\n")
    slurm.run("scontrol", "release", jobs[1])
    slurm.in_state(jobs[1], "COMPLETED")
    assert (folder / "log").read_text() == "before\nafter\n"
    for one in jobs:
        await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=int(one), clean=True, within_s=30)


EVIL = ("SLURM_CONF=/nonexistent", "SBATCH_PARTITION=gpu", "SBATCH_ACCOUNT=nosuch", "SBATCH_HOLD=1", "LEAK=1",
        "LD_PRELOAD=/nonexistent.so", "PYTHONPATH={evil}", "PYTHONSTARTUP={evil}/json.py", "PATH={evil}")  # fmt: skip


async def test_variables_of_the_caller_have_no_effect(slurm: Slurm, helper: Helper, launch_id: str) -> None:
    """Not even where sudo is told to keep them all."""
    evil = slurm.root / "evil"
    evil.mkdir()
    for name in ("json.py", "sbatch", "python3"):
        (evil / name).write_text("#!/bin/sh\nexit 1\n" if name != "json.py" else "raise SystemExit(7)\n")
        (evil / name).chmod(0o755)
    slurm.allow_sudo("zz-keeps-all", f"Defaults:{HUB} !env_reset, !secure_path")
    try:
        given = {**REQUEST, "launch": launch_id, "script": "#!/bin/sh\nenv\n"}
        environment = tuple(variable.format(evil=evil) for variable in EVIL)
        done = helper.call("submit", "ada", ADA, given=given, environment=environment)
        assert done.returncode == 0, done.stdout
        job = json.loads(done.stdout)["said"].strip()
        assert slurm.in_state(job, "COMPLETED")["partition"] == "cpu"
        log = (folder_of(helper, launch_id) / "log").read_text().splitlines()
        # Nor what the helper gives sbatch: a job has the variables of her login.
        assert [line for line in log if line.startswith(("LEAK=", "LC_ALL=C.UTF-8")) or "evil" in line] == []
    finally:
        (slurm.world.etc / "sudoers.d" / "zz-keeps-all").unlink()


SEEN = """env; echo "umask $(umask)"; grep ^SigIgn: /proc/self/status; exit 5"""


def test_nothing_of_the_caller_is_handed_on(slurm: Slurm, helper: Helper, launch_id: str) -> None:
    """As root calls it, without sudo between: three variables, no descriptor, a umask, and the true exit status."""
    seen = helper.program("seen", SEEN)
    helper.allow(programs={**PROGRAMS, "sbatch": seen})
    evil = dict(variable.format(evil="/nonexistent").split("=", 1) for variable in (*EVIL, "PYTHONHOME=/nonexistent"))
    del evil["LD_PRELOAD"], evil["PATH"]
    # A caller that ignores its children's end would make every exit status 0; one that ignores an alarm, no end at all.
    careless = ["sh", "-c", 'umask 000; exec "$@"', "sh", "env", "--ignore-signal"]
    read, write = os.pipe()
    with subprocess.Popen(
        [*slurm.world.login(), *careless, str(helper.path), "submit", "ada", ADA],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": PATH, **evil}, cwd="/root", pass_fds=[write],
    ) as process:  # fmt: skip
        os.close(write)
        # Its end is closed by the program itself, before it has read what to do.
        with os.fdopen(read, "rb") as held:
            assert held.read() == b""
        assert process.poll() is None
        answer = json.loads(process.communicate(json.dumps({**REQUEST, "launch": launch_id}).encode(), timeout=60)[0])
    assert (answer["status"], answer["errors"]) == (5, "")
    said = answer["said"].splitlines()
    assert {line for line in said if "=" in line and not line.startswith("PWD=")} == {
        "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", f"HOME={slurm.homes / 'ada'}"
    }  # fmt: skip
    assert [line for line in said if line.startswith("umask")] == ["umask 0022"]
    assert [int(line.split()[1], 16) for line in said if line.startswith("SigIgn:")] == [0]


async def test_a_set_of_files_takes_the_place_of_another(helper: Helper, launch_id: str) -> None:
    """Hers alone, all at once, through a link that stays; what is in the way is refused, and no job is made."""
    ada, folder = helper.account(), folder_of(helper, launch_id)
    with pytest.raises(BackendUnavailable) as caught:
        await helper.as_user.hand(ada, launch_id=launch_id, part="a", files={"storage": "t"}, within_s=30)
    assert "No such file" in caught.value.log_message
    assert list(folder.parent.iterdir()) == [], "the set of a launch that is over is left"
    folder.mkdir(mode=0o700)
    os.chown(folder, PEOPLE["ada"], LAB_GID)
    for part, files in (("a", {"storage": "1", "batch": "é"}), ("b", {"batch": "2"}), ("b", {}), ("a", {"x": "3"})):
        await helper.as_user.hand(ada, launch_id=launch_id, part=part, files=files, within_s=30)
        found = folder / "site_tokens"
        assert (os.readlink(found), {p.name: p.read_text() for p in found.iterdir()}) == (
            f"../{launch_id}-{part}",
            files,
        )
        about = [found.stat(), *(path.stat() for path in found.iterdir())]
        assert {(one.st_uid, stat.S_IMODE(one.st_mode) & 0o077) for one in about} == {(PEOPLE["ada"], 0)}
        await helper.as_user.cancel(
            ada, launch_id=f"{launch_id}-{'ba'[part == 'b']}", job_id=None, clean=True, within_s=30
        )
    assert {path.name for path in folder.parent.iterdir()} == {launch_id, f"{launch_id}-a"}
    assert helper.jobs(f"{launch_id}-a") == []
    (folder / "site_tokens").unlink()
    (folder / "site_tokens").mkdir()
    with pytest.raises(BackendUnavailable):
        await helper.as_user.hand(ada, launch_id=launch_id, part="b", files={}, within_s=30)
