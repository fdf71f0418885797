"""The chart's service for homes: off by default, alone in its namespace, started with what the program understands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daas_hub.clients.home_service import arguments
from daas_hub.core.models import Json

from .api_server import ApiServer
from .chart import CHART, RELEASE, Helm

pytestmark = [pytest.mark.needs("kube_api"), pytest.mark.timeout(120)]
HUB_NAMESPACE, USERS, HOMES = "hub-of-homes", "users-of-homes", "homes"
VALUES: dict[str, Any] = {
    "users": {"namespace": USERS, "ids": {"minUid": 20000, "maxUid": 59999, "minGid": 20000, "maxGid": 59999}},
    "volumes": {"roots": [{"nfs": {"server": "nas.example.org", "path": "/export/home"}}]},
    "homes": {
        "enabled": True,
        "namespace": HOMES,
        "folder": {"nfs": {"server": "nas.example.org", "path": "/export/home"}},
    },
    "hub": {
        "config": {
            "KubeBackend": {
                "volumes": {"home": {"kind": "nfs", "server": "nas.example.org", "path": "/export/home/{username}"}}
            }
        }
    },
}
LOAD = """
import json, sys
from traitlets.config.loader import PyFileConfigLoader
from daas_hub.backends.kube import KubeBackend
backend = KubeBackend(config=PyFileConfigLoader(sys.argv[1]).load_config())
names = ("home_creation", "home_service_url", "home_service_token_file")
print(json.dumps({name: getattr(backend, name) for name in names}))
"""


def one(api: ApiServer, path: str) -> Json:
    answer = api.ask("GET", path)
    assert answer.code == 200, answer.why
    return answer.body


def test_it_is_installed_beside_the_hub_which_knows_it(api: ApiServer, helm: Helm, tmp_path: Path) -> None:
    helm.install(HUB_NAMESPACE, VALUES)
    deployment = one(api, f"/apis/apps/v1/namespaces/{HOMES}/deployments/{RELEASE}-homes")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][:4] == ["python", "-I", "-m", "daas_hub.clients.home_service"]
    told = arguments().parse_args(container["args"][4:])
    assert (told.root, told.uids, told.gids) == ("/homes", (20000, 59999), (20000, 59999))
    assert told.reserved == [(60001, 60577), (61184, 65519), (65520, 65535)]
    assert told.port == container["ports"][0]["containerPort"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert {"name": "homes", "nfs": {"server": "nas.example.org", "path": "/export/home"}} in pod["volumes"]
    one(api, f"/apis/networking.k8s.io/v1/namespaces/{HOMES}/networkpolicies/{RELEASE}-homes")

    config = one(api, f"/api/v1/namespaces/{HUB_NAMESPACE}/configmaps/{RELEASE}-hub")
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    argv = [sys.executable, "-c", LOAD, str(tmp_path / "jupyterhub_config.py")]
    environment = {**os.environ, "POD_IP": "192.0.2.7"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    service = one(api, f"/api/v1/namespaces/{HOMES}/services/{RELEASE}-homes")
    port = service["spec"]["ports"][0]["port"]
    hub = one(api, f"/apis/apps/v1/namespaces/{HUB_NAMESPACE}/deployments/{RELEASE}-hub")["spec"]["template"]["spec"]
    (mounted,) = [m for c in hub["containers"] for m in c["volumeMounts"] if m["name"] == "homes"]
    assert json.loads(done.stdout) == {
        "home_creation": "service",
        "home_service_url": f"http://{RELEASE}-homes.{HOMES}.svc:{port}",
        "home_service_token_file": f"{mounted['mountPath']}/token",
    }


def test_the_hub_has_no_right_there(api: ApiServer, helm: Helm) -> None:
    helm.install(HUB_NAMESPACE, VALUES)
    account = f"system:serviceaccount:{HUB_NAMESPACE}:{RELEASE}-hub"
    for verb in ("get", "list", "create", "delete", "patch"):
        for resource in ("pods", "secrets", "configmaps", "deployments", "pods/exec"):
            name, _, sub = resource.partition("/")
            asked = {"namespace": HOMES, "verb": verb, "resource": name, "subresource": sub}
            if name == "deployments":
                asked["group"] = "apps"
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {"user": account, "resourceAttributes": asked},
            }
            answer = api.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            assert answer.body["status"]["allowed"] is False, asked


@pytest.mark.parametrize("namespace", [HUB_NAMESPACE, USERS])
def test_it_needs_a_namespace_of_its_own(helm: Helm, namespace: str) -> None:
    values = {**VALUES, "homes": {**VALUES["homes"], "namespace": namespace}}
    done = helm.run("template", RELEASE, str(CHART), "--namespace", HUB_NAMESPACE, "--kube-version=1.34.0",
                    helm.values(values, "own"))  # fmt: skip
    assert done.returncode != 0
    assert f"homes.namespace is {namespace}, where the hub has rights" in done.stderr


def test_it_needs_a_folder(helm: Helm) -> None:
    values = {"homes": {"enabled": True}}
    done = helm.run("template", RELEASE, str(CHART), "--kube-version=1.34.0", helm.values(values, "folder"))
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_it_is_off_unless_it_is_asked_for(helm: Helm) -> None:
    said = helm.must("template", RELEASE, str(CHART), "--kube-version=1.34.0")
    assert "home_service" not in said.replace("home_service_url", "").replace("home_service_token_file", "")
