"""What the chart installs: the API server takes it as it stands, rights are exactly those written down, data stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.models import Json
from tests.servers.kubernetes.build import programs

from .api_server import ApiServer
from .chart import CHART, HUB, RELEASE, RELEASE_NAMESPACE, USERS, VALUES, Helm
from .pods import RULES

pytestmark = [pytest.mark.needs("kube_api"), pytest.mark.timeout(120)]


def template(helm: Helm, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    named = helm.values(values, "template")
    return helm.run("template", RELEASE, str(CHART), "--namespace", RELEASE_NAMESPACE, "--kube-version=1.34.0", named)


def test_lint(helm: Helm) -> None:
    said = helm.must("lint", "--strict", "--kube-version=1.34.0", str(CHART), helm.values(VALUES))
    assert "[WARNING]" not in said


def test_the_api_server_takes_every_object_and_every_field(api: ApiServer, release: Helm) -> None:
    done = template(release, VALUES)
    assert done.returncode == 0, done.stderr
    argv = [str(programs()["kubectl"]), f"--kubeconfig={api.kubeconfig}", "apply", "-f", "-", "--server-side"]
    argv += ["--dry-run=server", "--validate=strict", "--force-conflicts"]
    applied = subprocess.run(argv, input=done.stdout, capture_output=True, text=True, check=False, timeout=60)
    assert (applied.returncode, applied.stderr) == (0, "")
    kinds = {line.partition("/")[0] for line in applied.stdout.splitlines()}
    assert {"deployment.apps", "validatingadmissionpolicybinding.admissionregistration.k8s.io"} <= kinds


WRONG_VALUES: dict[str, dict[str, Any]] = {
    "unknown": {"user": {"namespace": "x"}},
    "uid-0": {"users": {"ids": {"minUid": 0}}},
    "gid-0": {"users": {"ids": {"minGid": 0}}},
    "uid-too-large": {"users": {"ids": {"maxUid": 2**31}}},
    "namespace": {"users": {"namespace": "No_Name"}},
    "root-of-everything": {"volumes": {"roots": [{"hostPath": {"path": "/"}}]}},
    "root-with-slash": {"volumes": {"roots": [{"hostPath": {"path": "/srv/home/"}}]}},
    "root-with-dots": {"volumes": {"roots": [{"hostPath": {"path": "/srv/../etc"}}]}},
    "root-of-two-kinds": {
        "volumes": {"roots": [{"hostPath": {"path": "/srv"}, "nfs": {"server": "nas", "path": "/srv"}}]}
    },
    "no-depth": {"volumes": {"roots": [{"hostPath": {"path": "/srv"}, "depth": 0}]}},
    "mount-options-in-one": {"volumes": {"mountOptions": ["hard,suid"]}},
    "hub-id": {"hubId": 'x" || true || "'},
    "base-url": {"hub": {"baseUrl": "jupyter"}},
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_value_that_cannot_work_is_refused(helm: Helm, name: str) -> None:
    done = template(helm, WRONG_VALUES[name])
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_users_and_hub_need_two_namespaces(helm: Helm) -> None:
    done = template(helm, {"users": {"namespace": RELEASE_NAMESPACE}})
    assert done.returncode != 0
    assert f"users.namespace is {RELEASE_NAMESPACE}, the release's own namespace" in done.stderr


def test_equal_values_give_the_hub_the_rules_of_its_policy(api: ApiServer, release: Helm, tmp_path: Path) -> None:
    """The ConfigMap as the hub reads it, loaded as JupyterHub does."""
    config = api.ask("GET", f"/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps/{RELEASE}-hub").body
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "POD_IP": "192.0.2.7"}
    argv = [sys.executable, "-c", LOAD, str(tmp_path / "jupyterhub_config.py")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["console"] == "http://192.0.2.7:8082"
    assert found["hub"] == f"http://{RELEASE}-hub.{RELEASE_NAMESPACE}.svc:8081"
    assert found["rules"] == repr(expected_rules())


def expected_rules() -> Any:
    from dataclasses import replace

    return replace(RULES, reserved=((60001, 60577), (61184, 65519), (65520, 65535)))


LOAD = """
import json, sys
from traitlets.config.loader import PyFileConfigLoader
from daas_hub.backends.kube import KubeBackend
c = PyFileConfigLoader(sys.argv[1]).load_config()
backend = KubeBackend(config=c)
console = next(service for service in c.JupyterHub.services if service["name"] == "daas")
print(json.dumps({
    "rules": repr(backend.pod_rules(c.DaasHub.hub_id)),
    "console": console["url"],
    "hub": c.JupyterHub.hub_connect_url,
}))
"""

# ---------------------------------------------------------------- rights

RBAC = "/apis/rbac.authorization.k8s.io/v1"
IN_THE_USERS_NAMESPACE = {
    "pods": {"get", "list", "watch", "create", "delete"},
    "pods/log": {"get"},
    "secrets": {"get", "list", "create", "patch", "delete"},
    "configmaps": {"get", "list", "create", "patch", "delete"},
    "persistentvolumeclaims": {"get", "list", "watch", "create", "patch"},
    "events": {"get", "list", "watch"},
}
EVERYWHERE = {
    "nodes": {"get", "list", "watch"},
    "storageclasses": {"get", "list", "watch"},
    "persistentvolumes": {"get", "list", "patch", "create"},
}


def rights(rules: list[Json]) -> dict[str, set[str]]:
    assert not any(rule.get("nonResourceURLs") or rule.get("resourceNames") for rule in rules)
    return {resource: set(rule["verbs"]) for rule in rules for resource in rule["resources"]}


def test_the_hubs_rights_are_these_and_no_more(api: ApiServer, release: Helm) -> None:
    subject = {"kind": "ServiceAccount", "name": f"{RELEASE}-hub", "namespace": RELEASE_NAMESPACE}
    found = []
    for kind in ("rolebindings", "clusterrolebindings"):
        for binding in api.ask("GET", f"{RBAC}/{kind}").body["items"]:
            if subject in binding.get("subjects", []):
                role, namespace = binding["roleRef"], binding["metadata"].get("namespace")
                where = f"/namespaces/{namespace}" if role["kind"] == "Role" else ""
                rules = api.ask("GET", f"{RBAC}{where}/{role['kind'].lower()}s/{role['name']}").body["rules"]
                found.append((namespace, rights(rules)))
    assert found == [(USERS, IN_THE_USERS_NAMESPACE), (None, EVERYWHERE)]


def test_without_roots_the_hub_makes_no_disks(helm: Helm) -> None:
    assert "persistentvolumes]\n    verbs: [get, list, patch]" in template(helm, {}).stdout


def test_the_rights_are_those_of_the_reference() -> None:
    page = (CHART.parents[1] / "docs" / "reference" / "kubernetes-backend.md").read_text()
    for resource, verbs in (*IN_THE_USERS_NAMESPACE.items(), *EVERYWHERE.items()):
        row = next(line for line in page.splitlines() if line.startswith("| ") and f"`{resource}`" in line)
        assert set(row.split("|")[2].replace(",", " ").split()) == verbs, row


def test_other_namespaces_are_closed_to_the_hub(api: ApiServer, release: Helm) -> None:
    for path in (
        f"/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets",
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/namespaces/kube-system/pods",
        "/api/v1/pods",
        "/api/v1/namespaces",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    ):
        assert api.ask("GET", path, as_account=HUB).code == 403, path


# ---------------------------------------------------------------- what stays


def test_an_upgrade_keeps_the_keys(api: ApiServer, release: Helm) -> None:
    where = f"/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/{RELEASE}-hub"
    before = api.ask("GET", where).body["data"]
    release.install(RELEASE_NAMESPACE, {**VALUES, "networkPolicy": False})
    release.install(RELEASE_NAMESPACE, VALUES)
    assert api.ask("GET", where).body["data"] == before
    assert set(before) == {"crypt-key", "proxy-token"}


def test_an_uninstall_leaves_homes_ledger_and_keys_and_a_new_install_finds_them(api: ApiServer, release: Helm) -> None:
    values = {"users": {"namespace": "other-users"}}
    release.install("other-home", values)
    kept = [
        "/api/v1/namespaces/other-users",
        f"/api/v1/namespaces/other-home/persistentvolumeclaims/{RELEASE}-hub",
        f"/api/v1/namespaces/other-home/secrets/{RELEASE}-hub",
    ]
    before = [api.ask("GET", path).body["metadata"]["uid"] for path in kept]
    release.must("uninstall", RELEASE, "--namespace", "other-home")
    gone = api.ask("GET", f"/apis/apps/v1/namespaces/other-home/deployments/{RELEASE}-hub")
    assert gone.code == 404 or "deletionTimestamp" in gone.body["metadata"]
    release.install("other-home", values)
    assert [api.ask("GET", path).body["metadata"]["uid"] for path in kept] == before


def test_pods_of_the_release_are_restricted_too(api: ApiServer, release: Helm) -> None:
    for name in ("hub", "proxy"):
        where = f"/apis/apps/v1/namespaces/{RELEASE_NAMESPACE}/deployments/{RELEASE}-{name}"
        deployment = api.ask("GET", where).body
        body, container = (
            deployment["spec"]["template"]["spec"],
            deployment["spec"]["template"]["spec"]["containers"][0],
        )
        assert deployment["spec"]["strategy"]["type"] == "Recreate"
        assert (body["securityContext"]["runAsUser"], body["securityContext"]["runAsNonRoot"]) == (1000, True)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert body["automountServiceAccountToken"] is (name == "hub")
