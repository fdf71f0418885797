"""Profiles that cannot work stop the hub's start with one line that names them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daas_hub.core.models import Resource, Who
from daas_hub.db.ledger import Ledger
from tests.servers.hub import HubServer

CONFIG = """
from daas_hub import configure
configure(c)
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.DaasSpawner.profile_list = {profiles!r}
"""


def start(root: Path, profiles: object, more: str = "") -> tuple[int | None, str]:
    """The exit status and the critical lines of a hub that refuses; None where it runs after all."""
    server = HubServer(root, CONFIG.format(profiles=profiles) + more)
    done = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "-f", str(server.write_config())],
        cwd=root,
        env={
            "PATH": "/usr/bin:/bin",
            "JUPYTERHUB_CRYPT_KEY": server.crypt_key,
            # The daas_hub beside these tests, not one that happens to be installed.
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, "\n".join(line for line in done.stderr.splitlines() if line.startswith("[C"))


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"kubespawner_override": {"uid": 0}}, "profile 'gpu': kubespawner_override.uid is an owned key: the account"),
        ({"backend": "cloud"}, "profile 'gpu': backend is 'cloud'; this hub has local"),
        ({"alowed_groups": ["a"]}, "profile 'gpu': alowed_groups is unknown. Was allowed_groups meant?"),
    ],
)
def test_a_mistake_refuses_to_start(tmp_path: Path, profile: dict[str, object], words: str) -> None:
    status, lines = start(tmp_path, [{"display_name": "GPU", "slug": "gpu", **profile}])
    assert status == 1
    assert "daas_hub refuses to start: DaasSpawner.profile_list, " in lines
    assert words in lines


def test_a_profile_with_a_volume_that_the_site_has_not_refuses_to_start(tmp_path: Path) -> None:
    kube = """
c.DaasHub.backends = {{"kubernetes": "daas_hub.backends.kube.KubeBackend"}}
c.KubeBackend.volumes = {{"scratch": {{"kind": "dynamic", "mount_path": "/scratch", "size": {size!r}}}}}
"""
    profiles = [{"display_name": "GPU", "volumes": ["scratch", "atlas"], "resources": {"cpu_limit": 1}}]
    status, lines = start(tmp_path, profiles, kube.format(size="5Gi"))
    assert status == 1
    assert "Profile 'gpu' names the volume 'atlas'; there is home, scratch." in lines
    status, lines = start(tmp_path, profiles, kube.format(size="5 GB"))
    assert status == 1
    assert "KubeBackend.volumes['scratch']['size'] cannot be used: '5 GB' is not a size" in lines


def test_a_place_that_the_hub_has_not_refuses_to_start(tmp_path: Path) -> None:
    profiles = [{"display_name": "GPU", "resources": {"cpu_limit": 1}}]
    status, lines = start(tmp_path, profiles, 'c.DaasSpawner.placement_costs = {"moon:crater": 2.0}\n')
    assert status == 1
    assert "DaasSpawner.placement_costs names 'moon:crater', but DaasHub.backends has local." in lines


def test_a_profile_that_a_limit_could_not_count_refuses_to_start(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 4, by="test", now=datetime.now(UTC), note="")
    ledger.close()
    status, lines = start(tmp_path, [{"display_name": "GPU", "resources": {"mem_limit": "1G"}}])
    assert status == 1
    assert "Profile 'gpu' can be started without resources.cpu_limit (or cpu_guarantee), but there is a limit" in lines
