"""Tests that take any cluster run on the one that DAAS_TEST_KUBECONFIG names, beside the policies of a site there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.core.naming import new_id
from tests.helm.chart import RELEASE, Helm
from tests.waiting import LONG

from .client import HOST, Client
from .cluster import Cluster
from .fixtures import EXISTING, IMAGE
from .images import Image

ROOT = Path(__file__).resolve().parents[3]
ANY_CLUSTER = {
    "tests/servers/kubernetes/test_existing.py": ["test_each_test_has_a_namespace"],
    "tests/contracts/test_backend_kube.py": ["TestKubernetes::test_a_server_runs_as_the_account_and_answers"],
    "tests/contracts/test_kube_certified.py": [],
    "tests/flow/test_kube_flow.py": ["test_a_server_is_a_pod_of_the_person_and_her_home_comes_back"],
    "tests/flow/test_kube_start_told.py": [],
    "tests/faults/test_kube_expire.py": [],
    "tests/faults/test_kube_reasons.py": [],
    "tests/faults/test_kube_recovery.py": [],
    "tests/faults/test_kube_recovery_claim.py": [
        "test_the_first_ledger_has_the_namespace_until_another_takes_it_over",
    ],
    "tests/faults/test_kube_recovery_volumes.py": [],
}
"""Files whose tests need no more than ``kubernetes``, with those of every run; the long run has all."""


@pytest.mark.needs("kubernetes")
def test_each_test_has_a_namespace(kube: Client, kube_namespace: str) -> None:
    assert kube.get("namespace", kube_namespace)["status"]["phase"] == "Active"
    named = os.environ.get(EXISTING)
    assert isinstance(kube, Cluster) is (named is None)
    assert named in (None, str(kube.kubeconfig))


@pytest.fixture
def policies(kube_rig: Cluster, tmp_path: Path) -> Iterator[None]:
    """The chart is installed, with the admission policies of pods and volumes; its own pods are not waited for."""
    key = new_id()[:8]
    home, users = f"hub-{key}", f"users-{key}"
    helm = Helm(kube_rig.programs["helm"], tmp_path, kube_rig.kubeconfig)
    helm.install(home, {"hubId": f"site-{key}", "users": {"namespace": users}})
    try:
        yield
    finally:
        helm.must("uninstall", RELEASE, "--namespace", home)
        kube_rig.kubectl("delete", "namespace", home, users, "--wait=false")


@pytest.mark.needs("kube_rig", "slapd", "root")
@pytest.mark.timeout(3600 if LONG else 480)
@pytest.mark.usefixtures("policies")
def test_an_existing_cluster_is_used(kube_rig: Cluster, tiny: Image) -> None:
    """For the tests of the other process the rig is somebody's cluster: a kubeconfig and the name of an image."""
    nodes = [name for file, names in ANY_CLUSTER.items() for name in one_or_all(file, names)]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *nodes]
    environment = {**os.environ, EXISTING: str(kube_rig.kubeconfig), IMAGE: tiny.name}
    environment.pop(HOST, None)
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "NOT RUN" not in done.stdout or LONG, done.stdout


def one_or_all(file: str, names: list[str]) -> list[str]:
    """What of a file is run; of this one never the test that asks."""
    whole = LONG and not Path(__file__).match(file)
    return [file] if whole else [f"{file}::{name}" for name in names]


def test_the_list_is_what_needs_no_more_than_a_cluster() -> None:
    found = set()
    for path in ROOT.glob("tests/**/test_*.py"):
        text = path.read_text()
        needs = [line for line in text.splitlines() if "mark.needs(" in line and '"kubernetes"' in line]
        if any('"kube_rig"' not in line for line in needs):
            found.add(str(path.relative_to(ROOT)))
    assert found == set(ANY_CLUSTER)
