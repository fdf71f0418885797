"""The program daas-runas, installed on a cluster's login host, and the hub without rights that calls it by sudo."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from daas_hub.cli.slurm import helper_text, sudoers_text
from daas_hub.clients.as_user import AsUser
from daas_hub.core.models import Account
from tests.servers.slurm.daemons import PATH
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.waiting import PATIENCE

HUB, HUB_UID = "portal", 20190
MIN_UID, DENIED = 20000, ["eve"]
PROGRAMS = {"sbatch": "/usr/bin/sbatch", "scancel": "/usr/bin/scancel"}
REQUEST = {"hub": "lab", "launch": "a1", "job": "0", "script": "#!/bin/sh\n", "files": {}, "within_s": "30"}


class Helper:
    """Installed once for each cluster; each new one begins with the usual settings."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm = slurm
        self.path = slurm.root / "sbin" / "daas-runas"
        self.settings = slurm.world.etc / "daas-hub" / "runas.json"
        if not self.path.exists():
            self.path.parent.mkdir(mode=0o755)
            self.settings.parent.mkdir(mode=0o755)
            self.path.write_text(helper_text(settings=str(self.settings)))
            self.path.chmod(0o755)
            slurm.add_person(HUB, HUB_UID, account="")
            slurm.allow_sudo(HUB, sudoers_text(HUB, str(self.path)))
        self.allow()

    def allow(self, **changes: Any) -> None:
        """Write the settings."""
        whole = {"min_uid": MIN_UID, "denied": DENIED, "programs": PROGRAMS} | changes
        self.settings.write_text(json.dumps(whole))
        self.settings.chmod(0o644)

    def program(self, name: str, text: str) -> str:
        """The path of a shell script of root's, to stand for one of SLURM's programs in the settings."""
        path = self.path.with_name(name)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def jobs(self, launch_id: str) -> list[str]:
        """The ids of all jobs with the comment of a launch, also of those that have ended."""
        rows = self.slurm.run("squeue", "--states=all", "--noheader", "--format=%i %k").splitlines()
        return sorted(row.split()[0] for row in rows if row.split()[1:] == [f"daas:lab:{launch_id}"])

    @property
    def argv(self) -> list[str]:
        """The words by which the hub, its own account, calls it."""
        return [*self.slurm.login(HUB), "sudo", "-n", str(self.path)]

    @property
    def as_user(self) -> AsUser:
        """The hub's client."""
        return AsUser(self.argv)

    def call(
        self, *argv: str, given: str | Mapping[str, Any] = REQUEST, by: str = HUB, environment: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run it by sudo with exactly these words and this input, with further variables (``NAME=value``)."""
        text = given if isinstance(given, str) else json.dumps(given)
        words = [*self.slurm.login(by), "env", *environment, "/usr/bin/sudo", "-n", str(self.path), *argv]
        return subprocess.run(
            words, input=text, capture_output=True, text=True, check=False, timeout=60 * PATIENCE,
            env={"PATH": PATH}, cwd="/",
        )  # fmt: skip

    def refused(self, *argv: str, given: str | Mapping[str, Any] = REQUEST) -> tuple[str, str]:
        """Kind and text of a refusal."""
        done = self.call(*argv, given=given)
        answer = json.loads(done.stdout)
        assert done.returncode == 1, answer
        return answer["kind"], answer["error"]

    def account(self, name: str = "ada", **changes: Any) -> Account:
        """Somebody of the cluster as the hub knows her."""
        fields = {
            "id": name, "name": name, "uid": PEOPLE.get(name, 0), "gid": LAB_GID, "groups": (), "shell": "/bin/sh",
            "home": str(self.slurm.homes / name), "source": "test", "fetched_at": datetime.now(UTC),
        }  # fmt: skip
        return Account(**(fields | changes))
