"""The hub's and the proxy's image as the chart runs them: installed by helm, reached through the proxy's service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import RELEASE, Helm
from tests.servers.hub import http_call
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig", "images"), pytest.mark.timeout(240)]


@pytest.fixture
def installed(
    kube_rig: Cluster, kube_namespace: str, project_image: Callable[[str], Image], tmp_path: Path
) -> Iterator[str]:
    """The namespace of an installed chart with our two images, whose pods may not be ready yet."""
    images = {}
    for name in ("hub", "proxy"):
        image, _, tag = project_image(name).name.rpartition(":")
        images[name] = {"image": {"name": image, "tag": tag}}
    settings = {
        "config": {"JupyterHub": {"authenticator_class": "dummy"}},
        "extraConfig": "c.Authenticator.allow_all = True\n",
    }
    users = {"namespace": f"{kube_namespace}-users"}
    helm = Helm(kube_rig.programs["helm"], tmp_path, kube_rig.kubeconfig)
    helm.install(
        kube_namespace,
        {"users": users, "hubId": kube_namespace, "hub": {**images["hub"], **settings}, "proxy": images["proxy"]},
    )
    try:
        yield kube_namespace
    finally:
        helm.must("uninstall", RELEASE, "--namespace", kube_namespace)


async def test_the_chart_runs_with_them_as_nobody_in_particular(kube_rig: Cluster, installed: str) -> None:
    service = await asyncio.to_thread(kube_rig.get, "service", f"{RELEASE}-proxy", installed)
    url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}"

    def answered() -> bool:
        try:
            return http_call("GET", f"{url}/services/daas/health", None, {})[0] == 200
        except OSError:
            return False

    try:
        await until(lambda: asyncio.to_thread(answered), within_s=120, every_s=0.5, what="the console answers")
    except AssertionError as error:
        said = kube_rig.kubectl("get", "pods", "-n", installed)
        for name in ("hub", "proxy"):
            said += kube_rig.kubectl("logs", "-n", installed, f"deployment/{RELEASE}-{name}", "--tail=30")
        raise AssertionError(f"{error}\n{said}") from error
    status, page = await asyncio.to_thread(http_call, "GET", f"{url}/hub/login", None, {})
    assert (status, 'name="username"' in page) == (200, True)

    for name, first in (("hub", "tini"), ("proxy", "tini")):
        assert inside(kube_rig, installed, name, "id", "-u").strip() == "1000"
        assert Path(inside(kube_rig, installed, name, "cat", "/proc/1/comm").strip()).name == first
        manifest = manifest_in(kube_rig, installed, name)
        found = {(package["kind"], package["name"]): package["version"] for package in manifest["packages"]}
        assert manifest["name"] == name
        assert found[("deb", "tini")]
        if name == "hub":
            assert found[("pypi", "jupyterhub")] == "6.1.1"
            assert ("pypi", "hatchling") not in found
            extras = "import kubespawner, ldap3, psycopg; print(psycopg.pq.__impl__)"
            assert inside(kube_rig, installed, name, "python", "-c", extras).strip() == "binary"
        else:
            assert found[("npm", "configurable-http-proxy")].startswith("5.3.")
            assert found[("generic", "node")] == inside(kube_rig, installed, name, "node", "--version").strip()[1:]


def inside(cluster: Cluster, namespace: str, name: str, *argv: str) -> str:
    """What a program prints in the pod of that deployment."""
    return cluster.kubectl("exec", "-n", namespace, f"deployment/{RELEASE}-{name}", "--", *argv)


def manifest_in(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """What the image says that it is made of."""
    read: dict[str, Any] = json.loads(inside(cluster, namespace, name, "cat", "/usr/local/share/daas/manifest.json"))
    return read
