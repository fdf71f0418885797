"""Tests that take any cluster run on the one that DAAS_TEST_KUBECONFIG names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .client import Client
from .cluster import Cluster
from .fixtures import EXISTING

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.needs("kubernetes")
def test_each_test_has_a_namespace(kube: Client, kube_namespace: str) -> None:
    assert kube.get("namespace", kube_namespace)["status"]["phase"] == "Active"
    named = os.environ.get(EXISTING)
    assert isinstance(kube, Cluster) is (named is None)
    assert named in (None, str(kube.kubeconfig))


@pytest.mark.needs("kube_rig")
@pytest.mark.timeout(180)
def test_an_existing_cluster_is_used(kube_rig: Cluster) -> None:
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"{__file__}::test_each_test_has_a_namespace",
    ]
    environment = {**os.environ, EXISTING: str(kube_rig.kubeconfig)}
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
