"""What tests of Kubernetes ask for: one cluster for the whole run, a namespace for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from .build import BuildFailed, programs
from .client import Client
from .cluster import Cluster
from .images import Image, ImageFailed, names, project, tiny_singleuser

EXISTING, IMAGE = "DAAS_TEST_KUBECONFIG", "DAAS_TEST_IMAGE"
NEEDED = ("runc", "iptables", "ip", "unshare", "nsenter", "mount", "openssl", "buildah", "mmdebstrap", "busybox")


@cache
def own_cluster_possible() -> bool:
    """Whether this machine can run a cluster of its own; Go and the programs are found or fetched later."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if os.geteuid() != 0 or not Path("/usr/lib/cni/bridge").exists():
        return False
    if not all(shutil.which(program, path=path) for program in NEEDED):
        return False
    # Root of a container may lack the right.
    spaces = ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "ip", "link", "add", "daas", "type", "bridge"]
    return subprocess.run(spaces, capture_output=True, check=False).returncode == 0


def cluster_possible() -> bool:
    """Whether there is a cluster to test on: an existing one, or one of our own."""
    return bool(os.environ.get(EXISTING)) or own_cluster_possible()


_failed: list[BuildFailed | ImageFailed] = []


def wait_for_programs() -> None:
    """Wait for the build that the run began, or do it: outside of any test, whose time limit is much shorter."""
    if _failed:
        return
    try:
        programs()
        if own_cluster_possible():
            tiny_singleuser()
    except (BuildFailed, ImageFailed) as error:
        _failed.append(error)


_image_failed: dict[str, ImageFailed] = {}


def wait_for_images() -> None:
    """Wait for the project's images that the run began to build, or build them: outside of any test."""
    for name in names():
        try:
            project(name)
        except ImageFailed as error:
            _image_failed[name] = error


@pytest.fixture(scope="session")
def project_image(kube_rig: Cluster) -> Callable[[str], Image]:
    """Gives the cluster's node one of the project's own images and returns it."""

    def give(name: str) -> Image:
        if name in _image_failed:
            raise _image_failed[name]
        image = project(name)
        kube_rig.load(image.archive, image.name)
        return image

    return give


@pytest.fixture(scope="session")
def kube_rig() -> Iterator[Cluster]:
    """The tests' own cluster, for what cannot be asked of an existing one: its node, its programs, its faults."""
    if _failed:
        raise _failed[0]
    cluster = Cluster().start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> Client:
    """The cluster that DAAS_TEST_KUBECONFIG names, else the tests' own."""
    existing = os.environ.get(EXISTING)
    if not existing:
        own: Cluster = request.getfixturevalue("kube_rig")
        return own
    return Client(shutil.which("kubectl") or programs()["kubectl"], Path(existing))


@pytest.fixture(scope="session")
def tiny(kube_rig: Cluster) -> Image:
    """The image of the tests' tiny server, on the node of the tests' own cluster."""
    image = tiny_singleuser()
    kube_rig.load(image.archive, image.name)
    return image


@pytest.fixture(scope="session")
def tiny_name(kube: Client, request: pytest.FixtureRequest) -> str:
    """The same image by the name that the cluster has it under, whichever cluster it is."""
    if isinstance(kube, Cluster):
        own: Image = request.getfixturevalue("tiny")
        return own.name
    if not (name := os.environ.get(IMAGE)):
        pytest.fail(
            f"{EXISTING} names a cluster, so {IMAGE} must name an image that it can pull: the one that `python -m "
            "tests.servers.kubernetes.images tiny FILE` writes.",
            pytrace=False,
        )
    return name


@pytest.fixture
def kube_namespace(kube: Client) -> Iterator[str]:
    """A namespace of this test."""
    with kube.namespace() as name:
        yield name
