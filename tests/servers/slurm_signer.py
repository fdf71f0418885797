"""The program daas-slurm-signer, installed on a cluster's login host, and the hub that calls it by sudo."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from daas_hub.cli.slurm import signer_text, sudoers_text
from daas_hub.clients.slurm_rest import Signer as Client
from daas_hub.clients.slurm_rest import SlurmRest
from tests.servers.slurm.daemons import PATH
from tests.servers.slurm.rig import LAB_GID, Slurm
from tests.servers.slurm_helper import DENIED, HUB, MIN_UID, Helper
from tests.waiting import PATIENCE

SIGNER, SIGNER_UID = "signer", 20191


class Signer:
    """Installed once for each cluster; each new one begins with the usual settings."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm = slurm
        self.path = slurm.root / "sbin" / "daas-slurm-signer"
        self.settings = slurm.world.etc / "daas-hub" / "signer.json"
        self.key = slurm.root / "signer.key"
        Helper(slurm)
        if not self.path.exists():
            slurm.add_person(SIGNER, SIGNER_UID, account="")
            slurm.allow_sudo("signer", sudoers_text(HUB, str(self.path), SIGNER))
            self.path.write_text(signer_text(settings=str(self.settings)))
            self.path.chmod(0o755)
            self.key.touch(mode=0o400)
            os.chown(self.key, SIGNER_UID, LAB_GID)
            self.key.write_bytes((slurm.root / "jwt.key").read_bytes())
        self.allow()

    def allow(self, **changes: Any) -> None:
        """Write the settings."""
        self.settings.write_text(json.dumps({"min_uid": MIN_UID, "denied": DENIED, "key": str(self.key)} | changes))
        self.settings.chmod(0o644)

    @property
    def argv(self) -> list[str]:
        """The words by which the hub, its own account, calls it."""
        return [*self.slurm.login(HUB), "sudo", "-n", "-u", SIGNER, str(self.path)]

    @property
    def rest(self) -> SlurmRest:
        """The hub's client of the cluster's slurmrestd."""
        return SlurmRest(self.slurm.rest_url, Client(self.argv))

    def call(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Its exit status and what it says."""
        done = subprocess.run(
            [*self.argv, *words], capture_output=True, text=True, check=False, timeout=60 * PATIENCE,
            env={"PATH": PATH}, cwd="/",
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout)
