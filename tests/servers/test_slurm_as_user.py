"""An unprivileged hub on a real cluster submits, cancels and probes as somebody else: daas-runas through real sudo."""

from __future__ import annotations

import stat

import pytest

from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.servers.slurm_helper import Helper

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(120)]
UNTIL_TOLD = "#!/bin/sh\nid -u; id -G; pwd; umask; cat ~/.daas/$1/launch.json\nuntil [ -e go ]; do sleep 0.1; done\n"


@pytest.fixture
def helper(slurm: Slurm) -> Helper:
    return Helper(slurm)


async def test_a_job_of_hers(slurm: Slurm, helper: Helper) -> None:
    slurm.add_group("runas", 30033, "ada")
    script = "#!/bin/sh\n#SBATCH --comment=forged --output=/dev/null\nid -u; id -G; pwd; cat .daas/one/launch.json\n"
    files = {"launch.py": "print()\n", "launch.json": '{"é": 1}'}
    job = await helper.as_user.submit(
        helper.account(), hub_id="lab", launch_id="one", script=script, files=files, within_s=30
    )
    seen = slurm.in_state(str(job), "COMPLETED")
    assert (seen["user_name"], seen["comment"]) == ("ada", "daas:lab:one")
    home = slurm.homes / "ada"
    folder = home / ".daas" / "one"
    assert (folder / "log").read_text().splitlines() == [
        str(PEOPLE["ada"]), f"{LAB_GID} 30033", str(home), '{"é": 1}'
    ]  # fmt: skip
    for path, mode in ((folder.parent, 0o700), (folder, 0o700), *((folder / name, 0o600) for name in (*files, "log"))):
        about = path.lstat()
        assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (PEOPLE["ada"], LAB_GID, mode), path
    (folder.parent / "other").mkdir()
    await helper.as_user.cancel(helper.account(), launch_id="one", job_id=job, clean=True, within_s=30)
    assert [path.name for path in folder.parent.iterdir()] == ["other"]
