"""A profile's software on a real cluster, from where a site has it: Environment Modules, and a virtual environment.

Of Apptainer there is a stand-in only (``test_slurm_job.py``): it cannot be had here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.servers import tiny_server
from tests.servers.slurm.plain import PYTHON, Ear, PlainJob, ear, site, spec_of, submit
from tests.servers.slurm.rig import Slurm

pytestmark = [pytest.mark.needs("root", "slurm", "modules"), pytest.mark.timeout(120)]
MODULEFILE = """#%Module
prepend-path PATH /srv/software/lab/bin
setenv LAB_HOME /srv/software/lab
"""


@pytest.fixture
def heard() -> Iterator[Ear]:
    with ear() as one:
        yield one


@pytest.fixture
def software(slurm: Slurm) -> Iterator[Path]:
    """A folder that is ``/srv/software`` on every host of the cluster."""
    folder = slurm.root / "srv" / "software"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def prefix(job: PlainJob, heard: Ear) -> str:
    """Where the Python is that the server finds first."""
    argv = json.dumps(["python3", "-c", "import sys; print(sys.prefix)"])
    return str(job.answers(heard, f"run?{quote(argv)}")["text"].strip())


async def test_modules_of_a_site_and_a_virtual_environment_of_its_own(slurm: Slurm, heard: Ear, software: Path) -> None:
    """The server's program comes from the module; the command ``module`` itself from the node's /etc/profile.d."""
    (software / "modules/lab").mkdir(parents=True)
    (software / "modules/lab/1.0").write_text(MODULEFILE)
    (software / "lab/bin").mkdir(parents=True)
    program = software / "lab/bin/its-server"
    program.write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    program.chmod(0o755)
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(software / "venv")], check=True, umask=0o022)
    config = site(slurm)
    config.SlurmSpawner.req_prologue += "\nexport MODULEPATH=/srv/software/modules"
    server = ("its-server", *tiny_server.program(PYTHON)[1:])
    asked = {"modules": ["lab/1.0"], "venv": "/srv/software/venv"}
    job = await submit(slurm, spec_of(slurm, cmd=server, override={"software": asked}), heard, config=config)
    env = job.answers(heard)["environment"]
    assert (env["LAB_HOME"], env["LOADEDMODULES"]) == ("/srv/software/lab", "lab/1.0")
    assert env["PATH"].split(":")[:2] == ["/srv/software/venv/bin", "/srv/software/lab/bin"]
    assert prefix(job, heard) == env["VIRTUAL_ENV"] == "/srv/software/venv"
    job.cancel()
    heard.heard.clear()
    missing = spec_of(slurm, override={"software": {"modules": ["lab/1.0", "lab/9"]}})
    job = await submit(slurm, missing, heard, config=config)
    assert job.ended()["job_state"] == "FAILED"
    assert "daas-hub: module load lab/9 failed" in job.log()
    assert not heard.heard
