"""The whole of it: `helm install` on a real cluster, sign-in by the directory, a server as the person, its end."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.fault_proxy import FaultProxy
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image, project
from tests.servers.slapd import BASE, PEOPLE, SERVICE_DN, Slapd
from tests.waiting import until

from .chart import RELEASE, Helm

pytestmark = [pytest.mark.needs("kubernetes", "kube_rig", "images", "slapd", "root"), pytest.mark.timeout(300)]
HOME, USERS, TOKEN = "installed-hub", "installed-users", "t" * 40
EXTRA = f"""
c.JupyterHub.services = [{{"name": "tests", "api_token": "{TOKEN}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": ["admin:users", "admin:servers"], "services": ["tests"]}}]
"""


class InstalledHub:
    """A release of the chart with the project's own images, before a real directory outside of the cluster."""

    home, users = HOME, USERS
    """The release's namespace and that of its users."""

    def __init__(self, cluster: Cluster, folder: Path, server: Image) -> None:
        self.cluster, self.folder, self.server = cluster, folder, server
        (folder / "slapd").mkdir(mode=0o700)
        self.directory = Slapd(folder / "slapd", folder / "homes")
        # The directory listens on the loopback interface only.
        self.way = FaultProxy(self.directory.port, host=cluster.host)
        self.helm = Helm(cluster.programs["helm"], folder, cluster.kubeconfig)
        self.url = ""

    async def kubectl(self, *words: str, within_s: float = 60) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, *words, within_s=within_s)

    async def start(self) -> None:
        await self.directory.start()
        await self.way.start()
        images = {name: await asyncio.to_thread(project, name) for name in ("hub", "proxy")}
        for image in images.values():
            await asyncio.to_thread(self.cluster.load, image.archive, image.name)
        await self.kubectl("create", "namespace", self.home)
        await asyncio.to_thread(self.cluster.apply, *self._directory_by_name())
        files = [f"--from-file=password={self.directory.password_file}", f"--from-file=ca.pem={self.directory.ca_file}"]
        await self.kubectl("-n", self.home, "create", "secret", "generic", "ldap", *files)
        await asyncio.to_thread(self.helm.install, self.home, self._values(images))
        words = ("wait", "--for=condition=Available", "deployment", "--all", "--timeout=120s")
        await self.kubectl("-n", self.home, *words, within_s=150)
        service = await asyncio.to_thread(self.cluster.get, "service", f"{RELEASE}-proxy", self.home)
        self.url = f"http://{service['spec']['clusterIP']}"

    def _directory_by_name(self) -> list[dict[str, Any]]:
        """The directory's certificate is for this name."""
        meta = {"name": "directory", "namespace": self.home}
        port = {"name": "ldap", "port": self.way.port}
        labels = {"kubernetes.io/service-name": "directory"}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": "None", "ports": [port]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [self.cluster.host]}],
                "ports": [port],
            },
        ]

    def _values(self, images: dict[str, Image]) -> dict[str, Any]:
        def named(image: Image) -> dict[str, str]:
            name, _, tag = image.name.rpartition(":")
            return {"name": name, "tag": tag, "pullPolicy": "Never"}

        config = {
            "JupyterHub": {"authenticator_class": "daas-ldap"},
            "DaasLDAPAuthenticator": {
                "server_uris": [f"ldap://directory:{self.way.port}"],
                "tls_ca_file": "/etc/daas-hub-secrets/ldap/ca.pem",
                "bind_dn": SERVICE_DN,
                "bind_password_file": "/etc/daas-hub-secrets/ldap/password",
                "user_search_base": f"ou=people,{BASE}",
                "group_search_base": f"ou=groups,{BASE}",
                "allowed_groups": ["lab"],
            },
            "DaasSpawner": {"cmd": ["jupyterhub-singleuser"]},
            "KubeSpawner": {"image": self.server.name, "image_pull_policy": "IfNotPresent"},
            "KubeBackend": {"home_size": "1Gi", "stop_grace_s": 3},
            "Reconciler": {"every_s": 2},
        }
        hub = {"image": named(images["hub"]), "mountSecrets": ["ldap"], "config": config, "extraConfig": EXTRA}
        return {"hub": hub, "proxy": {"image": named(images["proxy"])}, "users": {"namespace": self.users}}

    async def stop(self) -> None:
        try:
            await self.kubectl("delete", "namespace", self.home, self.users, "--wait=false", "--ignore-not-found")
            await asyncio.to_thread(self.helm.run, "uninstall", RELEASE, "--namespace", self.home)
        finally:
            await self.way.stop()
            await self.directory.stop()

    async def sign_in(self, name: str) -> str:
        """The address where a person is after her sign-in."""
        return await asyncio.to_thread(self._sign_in, name)

    def _sign_in(self, name: str) -> str:
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
        login = f"{self.url}/hub/login"
        opener.open(login, timeout=20).close()
        token = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
        form = {"username": name, "password": PEOPLE[name].password, "_xsrf": token}
        with opener.open(login, urllib.parse.urlencode(form).encode(), timeout=20) as answer:
            return str(answer.url)

    async def api(self, method: str, path: str) -> tuple[int, Any]:
        return await asyncio.to_thread(self._api, method, path)

    def _api(self, method: str, path: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                code, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            code, text = error.code, error.read()
        return code, json.loads(text) if text[:1] in (b"{", b"[") else text.decode(errors="replace")

    async def names(self, kinds: str) -> list[str]:
        """What there is of these kinds in the users' namespace, but for what it always has."""
        said = await self.kubectl("-n", self.users, "get", kinds, "-o", "name")
        always = ("configmap/kube-root-ca.crt", "configmap/ledger-of-")
        return [name for name in said.split() if not name.startswith(always)]


@pytest.fixture
async def hub(kube_rig: Cluster, tiny: Image, tmp_path: Path) -> AsyncIterator[InstalledHub]:
    made = InstalledHub(kube_rig, tmp_path, tiny)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_from_helm_install_to_a_stopped_server(hub: InstalledHub) -> None:
    ada = PEOPLE["ada"]
    assert (await hub.sign_in("ada")).startswith(f"{hub.url}/hub/")
    code, answer = await hub.api("POST", "/hub/api/users/ada/server")
    assert code in (201, 202), answer

    async def ready() -> bool:
        _, user = await hub.api("GET", "/hub/api/users/ada")
        return bool(user["servers"].get("", {}).get("ready"))

    await until(ready, within_s=90, every_s=0.5, what="her server is ready")
    (pod,) = await hub.names("pods")
    inside = await hub.kubectl("-n", USERS, "exec", pod, "-c", "notebook", "--", "id")
    assert inside.startswith(f"uid={ada.uid}(ada) gid={ada.gid}(")
    code, answer = await hub.api("GET", "/user/ada/api")
    assert (code, set(answer)) == (200, {"version"}), answer

    # The reconciler of the pod knows the cluster: an end that nobody asked for is told.
    await hub.kubectl("-n", USERS, "delete", pod, "--grace-period=1")

    async def gone() -> bool:
        _, user = await hub.api("GET", "/hub/api/users/ada")
        return not user["servers"] and not await hub.names("pods,secrets,configmaps")

    await until(gone, within_s=60, every_s=0.5, what="nothing is left of the server")
    (claim,) = await hub.names("persistentvolumeclaims")
    name = await hub.kubectl("-n", USERS, "get", claim, "-o", "jsonpath={.spec.volumeName}")
    disk = await asyncio.to_thread(hub.cluster.get, "persistentvolume", name)
    assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    log = await hub.kubectl("-n", HOME, "logs", f"deployment/{RELEASE}-hub", "--tail=2000")
    assert "ConfigError" not in log
    assert "forbidden" not in log
