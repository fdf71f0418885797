"""Our script and launcher on a real cluster: the server runs as its account, is found, and leaves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.core.models import AccountGroup, Resources
from daas_hub.core.sbatch_lines import words
from tests.servers import tiny_server
from tests.servers.slurm.plain import PYTHON, TOKEN, Ear, PlainJob, again, ear, site, spec_of, submit
from tests.servers.slurm.rig import LAB, LAB_GID, PEOPLE, Slurm

pytestmark = pytest.mark.timeout(180)
here = pytest.mark.needs("root", "slurm")
BEAM_GID = 30041
TEMPLATE = """#!/bin/bash
#SBATCH --job-name=lab-{{username}}
{% if partition %}#SBATCH --partition={{partition}}
{% endif %}{% if options %}#SBATCH {{options}}{% endif %}
export FROM_TEMPLATE=yes
{{prologue}}
srun --unbuffered {{cmd}}
"""


@pytest.fixture
def heard() -> Iterator[Ear]:
    with ear() as one:
        yield one


def processes_of(job: PlainJob) -> list[int]:
    """Whoever has the launch's mark, as a server's descendants do."""
    return with_environ(f"DAAS_LAUNCH_ID={job.spec.launch_id}")


def with_environ(text: str) -> list[int]:
    """Processes among whose variables is this text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def gone(slurm: Slurm, job: PlainJob, own: Path) -> None:
    slurm.until(lambda: not processes_of(job), what="no process of the launch is left")
    slurm.until(lambda: not own.exists(), what=f"{own} is removed")


@pytest.mark.parametrize("partition", ["cpu", "gpu"])
async def test_a_server_runs_as_its_account_on_the_node_and_its_end_leaves_nothing(
    slurm_any: Slurm, heard: Ear, partition: str
) -> None:
    slurm = slurm_any
    slurm.add_group(f"beam-{partition}", BEAM_GID + len(partition), "ada")
    spec = spec_of(
        slurm,
        override={"slurm": {"partition": partition}},
        resources=Resources(cpu_limit=2, mem_limit_bytes=300 * 2**20, gpus=int(partition == "gpu")),
        cmd=tiny_server.program(PYTHON, children=2),
    )
    groups = (AccountGroup(LAB, LAB_GID), AccountGroup("beam", BEAM_GID + len(partition)))
    job = await submit(slurm, replace(spec, account=replace(spec.account, groups=groups)), heard)
    said = job.answers(heard)
    env = said["environment"]
    assert said["resuid"] == [PEOPLE["ada"]] * 3
    assert said["resgid"] == [LAB_GID] * 3
    assert {LAB_GID, BEAM_GID + len(partition)} <= set(said["groups"])
    assert "groups_missing" not in job.log()
    assert (env["HOME"], env["USER"], env["LOGNAME"], said["cwd"]) == (spec.account.home, "ada", "ada", env["HOME"])
    assert env["SLURMD_NODENAME"] == f"{partition}1"
    assert env["SLURM_CPUS_PER_TASK"] == env["SLURM_CPUS_ON_NODE"] == "2"
    assert env.get("CUDA_VISIBLE_DEVICES") == ("0" if partition == "gpu" else None)
    own = Path(env["JUPYTER_RUNTIME_DIR"]).parent
    assert (own.stat().st_uid, own.stat().st_mode & 0o777) == (PEOPLE["ada"], 0o700)
    assert Path(env["HOME"]) not in own.parents
    assert all(Path(env[name]).is_dir() for name in env if name.startswith("JUPYTER") and name.endswith("_DIR"))
    assert heard.heard[0][0]["Authorization"] == f"token {TOKEN}"
    assert slurm.job(job.id)["comment"] == f"daas:hub:{spec.launch_id}"
    assert len(processes_of(job)) == 3
    job.cancel()
    gone(slurm, job, own)


@pytest.mark.parametrize("srun", ["", "srun", "template"])
async def test_the_token_is_with_the_server_and_nowhere_else_and_a_cancel_reaches_it(
    slurm_any: Slurm, heard: Ear, srun: str
) -> None:
    slurm = slurm_any
    code = (
        "import os, signal, socket, urllib.parse, pathlib\n"
        "def end(number, frame):\n"
        "    pathlib.Path('told-to-end').write_text(os.environ['DAAS_LAUNCH_ID'])\n"
        "    raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('the server has begun', flush=True)\n"
        "while True: signal.pause()\n"
    )
    settings = {"batch_script": TEMPLATE} if srun == "template" else {"req_srun": srun}
    spec = spec_of(slurm, "bob", cmd=(PYTHON, "-c", code))
    job = await submit(slurm, spec, heard, config=site(slurm, **settings))
    slurm.until(lambda: heard.heard and "has begun" in job.log(), what="the server runs")
    (server,) = processes_of(job)
    environ = Path(f"/proc/{server}/environ")
    env = dict(line.split("=", 1) for line in environ.read_text().split("\0") if line)
    assert env["JUPYTERHUB_API_TOKEN"] == TOKEN
    assert ("FROM_TEMPLATE" in env) is (srun == "template")
    assert ("SLURM_STEP_ID" in env) is bool(srun)
    assert with_environ(TOKEN) == [server]
    for path in (*Path("/proc").glob("[0-9]*/cmdline"), *slurm.root.glob("spool-*/job*/*"), job.folder / "log"):
        try:
            assert TOKEN.encode() not in path.read_bytes(), path
        except OSError:
            continue
    told = [
        slurm.run("scontrol", "show", "job", "--details", job.id),
        slurm.run("squeue", "--format=%all"),
        slurm.run("squeue", "--json"),
        slurm.run("scontrol", "write", "batch_script", job.id, "-"),
        slurm.run("sacct", "--json", "--jobs", job.id),
        job.script,
    ]
    assert not [one for one in told if TOKEN in one]
    assert job.spec.launch_id in told[3]
    job.cancel()
    gone(slurm, job, Path(env["IPYTHONDIR"]).parent)
    assert (slurm.homes / "bob" / "told-to-end").read_text() == spec.launch_id


@here
async def test_a_folder_serves_again_after_a_requeue(slurm: Slurm, heard: Ear) -> None:
    """SLURM runs a requeued job's script once more, on any node; two minutes after its end, which nobody waits for."""
    heard.answers[:] = [503, 200]
    first = await submit(slurm, spec_of(slurm, override={"slurm": {"partition": "cpu"}}), heard)
    assert first.answers(heard, times=2)["environment"]["SLURMD_NODENAME"] == "cpu1"
    first.cancel()
    second = again(first, "--partition=gpu")
    assert second.answers(heard, times=3)["environment"]["SLURMD_NODENAME"] == "gpu1"
    assert [headers["Authorization"] for headers, _ in heard.heard] == [f"token {TOKEN}"] * 3
    assert heard.ports()[0] == heard.ports()[1]
    assert "503" in second.log()
    second.cancel()


@here
@pytest.mark.parametrize("end", ["crash", "cancel"])
async def test_settings_of_the_home_are_there_and_go_back(slurm: Slurm, heard: Ear, end: str) -> None:
    """However a server ends, and before its job does: SLURM kills what is left of a job at once."""
    kept = slurm.homes / "bob" / ".jupyter" / "lab" / "user-settings" / f"{end}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("old")
    for path in (kept, *list(kept.parents)[:3]):
        os.chown(path, PEOPLE["bob"], LAB_GID)
    job = await submit(slurm, spec_of(slurm, "bob"), heard)
    env = job.answers(heard)["environment"]
    there = Path(env["JUPYTERLAB_SETTINGS_DIR"]) / f"{end}.json"
    assert there.read_text() == "old"
    assert "terminado_settings" in (Path(env["JUPYTER_CONFIG_DIR"]) / "jupyter_server_config.json").read_text()
    there.write_text("new")
    if end == "cancel":
        job.cancel()
    else:
        with pytest.raises(AssertionError, match=r"'(FAILED|COMPLETING)'"):
            job.answers(heard, "end")
    slurm.until(lambda: slurm.job(job.id)["job_state"] != "COMPLETING", what="the job is over")
    gone(slurm, job, there.parents[2])
    assert kept.read_text() == "new"


@here
async def test_software_of_modules_and_of_a_virtual_environment(slurm: Slurm, heard: Ear) -> None:
    venv = slurm.homes / "ada" / "my venv"
    (venv / "bin").mkdir(parents=True)
    program = venv / "bin" / "its-server"
    program.write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    program.chmod(0o755)
    module = 'module() { test "$2" != broken && export "LOADED=${LOADED:-}$*;"; }'
    config = site(slurm)
    config.SlurmSpawner.req_prologue += f"\n{module}"
    spec = spec_of(
        slurm,
        cmd=("its-server", *tiny_server.program(PYTHON)[1:]),
        override={"software": {"modules": ["gcc/12", "lab"], "venv": str(venv), "apptainer": None}},
    )
    job = await submit(slurm, spec, heard, config=config)
    env = job.answers(heard)["environment"]
    assert env["LOADED"] == "load gcc/12;load lab;"
    assert env["PATH"].split(":")[0] == str(venv / "bin")
    assert env["VIRTUAL_ENV"] == str(venv)
    job.cancel()
    heard.heard.clear()
    job = await submit(slurm, spec_of(slurm, override={"software": {"modules": ["broken"]}}), heard, config=config)
    assert job.ended()["job_state"] == "FAILED"
    assert "daas-hub: module load broken failed" in job.log()
    assert not heard.heard
    shutil.rmtree(venv)


@here
async def test_software_of_an_image_is_asked_of_apptainer(slurm: Slurm, heard: Ear) -> None:
    """A stand-in that records what it is asked, and then runs the program: Apptainer itself cannot be had here."""
    tools = slurm.homes / "ada" / "tools"
    tools.mkdir()
    stand_in = tools / "apptainer"
    stand_in.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" >"$HOME/asked"\nwhile [ "$1" != /images/lab.sif ]; do shift; done\n'
        'shift\nexec "$@"\n'
    )
    stand_in.chmod(0o755)
    config = site(slurm)
    config.SlurmSpawner.req_prologue += f"\nexport PATH={tools}:$PATH"
    spec = spec_of(
        slurm,
        resources=Resources(gpus=1),
        override={"slurm": {"partition": "gpu"}, "software": {"apptainer": "/images/lab.sif"}},
    )
    job = await submit(slurm, spec, heard, config=config)
    env = job.answers(heard)["environment"]
    asked = (slurm.homes / "ada" / "asked").read_text().split("\n")
    home, own = env["HOME"], str(Path(env["IPYTHONDIR"]).parent)
    assert asked[:9] == ["exec", "--bind", home, "--bind", own, "--pwd", home, "--nv", "/images/lab.sif"]
    assert asked[9] == PYTHON
    assert TOKEN not in "".join(asked)
    job.cancel()
    shutil.rmtree(tools)


@here
async def test_of_several_tasks_one_is_the_server(slurm: Slurm, heard: Ear) -> None:
    spec = spec_of(slurm, override={"slurm": {"options": "--ntasks=3"}})
    job = await submit(slurm, spec, heard)
    job.answers(heard)
    assert len(processes_of(job)) == 1
    job.cancel()
    assert len(heard.heard) == 1


@here
async def test_a_home_with_blanks_and_quotes(slurm: Slurm, heard: Ear) -> None:
    plain, odd = slurm.homes / "eve", slurm.homes / 'o\'dd "one" $HOME #1'
    passwd = slurm.world.etc / "passwd"
    before = passwd.read_text()
    plain.rename(odd)
    passwd.write_text(before.replace(f":{plain}:", f":{odd}:"))
    try:
        job = await submit(slurm, spec_of(slurm, "eve", home=str(odd)), heard)
        said = job.answers(heard)
        assert said["cwd"] == said["environment"]["HOME"] == str(odd)
        job.cancel()
    finally:
        passwd.write_text(before)
        odd.rename(plain)


@here
async def test_another_uid_on_the_node_starts_nothing(slurm: Slurm, heard: Ear) -> None:
    spec = spec_of(slurm, "ada")
    job = await submit(slurm, spec, heard, account=replace(spec.account, uid=PEOPLE["bob"]))
    assert job.ended()["job_state"] == "FAILED"
    assert f"has uid {PEOPLE['bob']} and gid {LAB_GID}" in job.log()
    assert f"runs as uid {PEOPLE['ada']}" in job.log()
    assert not heard.heard
    assert os.listdir(job.folder)


LINES = (
    "--job-name='a\\'b c'",
    '--job-name="a \'b"  --nice=3',
    "--job-name='a\"b' # --job-name=x",
    "--job-name=a#b --nice=4",
    "--job-name=a'#'b",
    "--job-name='a\\nb'",
    "\t--job-name=a:b",
    "--job-n=abbreviated",
    "-HJ flag",
    "-Jshort",
    "--job-name=x\\\t--job-name=y",
)


def test_sbatch_splits_lines_as_we_do(slurm_any: Slurm) -> None:
    """By the name that the real one gives to a job."""
    slurm, named = slurm_any, []
    for line in LINES:
        given = f"#!/bin/sh\n#SBATCH {line}\ntrue\n"
        job = slurm.run("sbatch", "--parsable", "--hold", "--chdir=/", user="ada", given=given).strip()
        named.append(slurm.run("squeue", "--noheader", f"--jobs={job}", "--format=%j").rstrip("\n"))
        slurm.run("scancel", job)
    ours = []
    for line in LINES:
        *_, last = [word for word in words(line) if not word.startswith(("--nice", "-H"))]
        ours.append(last.removeprefix("-J").partition("=")[2] or last.removeprefix("-J"))
    assert ours == named


async def test_the_hubs_command_line_wins_over_lines_of_a_template(slurm_any: Slurm, heard: Ear) -> None:
    """What ``core/sbatch_lines.py`` calls replaced: such lines have no effect."""
    slurm = slurm_any
    lines = "--output=/dev/null --comment=forged --export=ALL --chdir=/ --open-mode=truncate"
    template = TEMPLATE.replace("#SBATCH --job", f"#SBATCH {lines}\n#SBATCH --job")
    job = await submit(slurm, spec_of(slurm), heard, config=site(slurm, batch_script=template))
    said = job.answers(heard)
    seen = slurm.job(job.id)
    assert seen["comment"] == f"daas:hub:{job.spec.launch_id}"
    assert seen["standard_output"] == str(job.folder / "log")
    assert seen["current_working_directory"] == said["cwd"] == job.spec.account.home
    assert "PYTEST_CURRENT_TEST" not in said["environment"]
    job.cancel()
