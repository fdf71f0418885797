"""What is put into the folder of a job: argv by the profile's software, variables, certificates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import slurm_launcher
from daas_hub.backends.slurm_launch import launch_files
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import LaunchSpec, Resources
from daas_hub.core.site_tokens import VARIABLE
from tests.servers.slurm.plain import spec_here


def test_the_hubs_own_paths_stay_with_the_hub() -> None:
    given = {"PATH": "/hub/bin", "VIRTUAL_ENV": "/hub", "PYTHONPATH": "/profile", "LANG": "C"}
    files = launch_files(
        spec_here(Path("/home/ada"), environment=given),
        report_url="http://hub/",
        ports=None,
        hub_environment={"PATH": "/hub/bin", "VIRTUAL_ENV": "/hub", "PYTHONPATH": "/hub/lib"},
    )
    assert json.loads(files["launch.json"])["environment"] == {"PYTHONPATH": "/profile", "LANG": "C"}


def values_of(spec: LaunchSpec) -> Any:
    return json.loads(launch_files(spec, report_url="http://hub/", ports=(5000, 6000))["launch.json"])


def test_software_of_an_image() -> None:
    home = Path("/home/ada")
    image = {"software": {"apptainer": "docker://site/lab:1"}}
    values = values_of(
        spec_here(home, override=image, cmd=("jupyterhub-singleuser", "--x"), resources=Resources(gpus=2))
    )
    words = ["apptainer", "exec", "--bind", "/home/ada", "--bind", "{own}", "--pwd", "/home/ada", "--nv"]
    assert values["argv"] == [*words, "docker://site/lab:1", "jupyterhub-singleuser", "--x"]
    assert values["path_first"] == []
    with pytest.raises(StartFailed, match="comma or a colon") as caught:
        values_of(spec_here(Path("/home/a,b"), override=image))
    assert caught.value.permanent


def test_software_of_a_virtual_environment() -> None:
    values = values_of(
        spec_here(Path("/h"), override={"software": {"venv": "/sw/lab"}}, cmd=("jupyterhub-singleuser",))
    )
    assert (values["path_first"], values["environment"]["VIRTUAL_ENV"]) == (["/sw/lab/bin"], "/sw/lab")
    assert values["ports"] == [5000, 6000]


def test_certificates_lie_beside_it_and_the_server_speaks_tls(tmp_path: Path) -> None:
    paths = {}
    for kind in ("keyfile", "certfile", "cafile"):
        (tmp_path / kind).write_text(f"the {kind}")
        paths[kind] = str(tmp_path / kind)
    spec = spec_here(Path("/h"), certificates=paths)
    files = launch_files(spec, report_url="https://hub/", ports=None)
    assert {name: files[name] for name in paths} == {name: f"the {name}" for name in paths}
    launch = json.loads(files["launch.json"])
    env = slurm_launcher.environment(launch, "/h/.daas/x", "/tmp/own", "fd00::1", 5001)
    assert env["JUPYTERHUB_SERVICE_URL"] == "https://[fd00::1]:5001/user/ada/"
    assert env["JUPYTERHUB_SSL_KEYFILE"] == "/h/.daas/x/keyfile"
    assert env["JUPYTERHUB_SSL_CLIENT_CA"] == "/h/.daas/x/cafile"


@pytest.mark.parametrize("claims", [False, True])
@pytest.mark.parametrize("site_tokens", [False, True])
def test_who_puts_site_tokens_where(claims: bool, site_tokens: bool) -> None:
    spec = spec_here(Path("/h"), site_tokens=site_tokens)
    files = launch_files(spec, report_url="http://hub/", ports=None, claims=claims)
    launch = json.loads(files["launch.json"])
    env = slurm_launcher.environment(launch, "/h/.daas/x", "/tmp/own", "", 5001)
    # By the helper in the home; fetched, on the node.
    at = "/tmp/own/site_tokens" if claims else f"/h/.daas/{spec.launch_id}/site_tokens"
    assert env.get(VARIABLE) == (at if site_tokens else None)
    assert launch["beside"] == (["keeper.py", "tokens"] if claims and site_tokens else [])
    assert ({"claimer.py", "keeper.py"} <= set(files)) is claims
