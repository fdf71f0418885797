"""One API server for all tests of the chart, with two releases of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from daas_hub.core.models import Json
from tests.servers.kubernetes.build import programs
from tests.waiting import PATIENCE

from .api_server import Answer, ApiServer
from .chart import HUB, RELEASE, RELEASE_NAMESPACE, USERS, VALUES, Helm
from .pods import good_pod

OPEN_USERS, OPEN_HOME = "open-users", "open-hub-home"
LOOSE_USERS, LOOSE_HOME = "loose-users", "loose-hub-home"
OPEN_HUB, LOOSE_HUB = f"{OPEN_HOME}:{RELEASE}-hub", f"{LOOSE_HOME}:{RELEASE}-hub"


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server, empty."""
    server = ApiServer(tmp_path_factory.mktemp("api"), programs())
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def helm(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm with an administrator's rights."""
    return Helm(programs()["helm"], tmp_path_factory.mktemp("helm"), api.kubeconfig)


def _make(api: ApiServer, path: str, body: Json) -> None:
    answer = api.ask("POST", path, body)
    assert answer.code in (201, 409), answer.why


def _accounts(api: ApiServer, namespace: str) -> None:
    """The one that the controller manager would make, and one that somebody else made."""
    for name in ("default", "operator"):
        _make(api, f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})


def _until_policies_act(api: ApiServer, namespace: str, account: str) -> None:
    """An API server takes a moment to compile new policies: both answer, and the first rule is the policy's."""
    pod, disk = good_pod(namespace), {"metadata": {"name": "wrong"}, "spec": dict(_DISK)}
    deadline = time.monotonic() + 30 * PATIENCE
    while True:
        by_admin = api.ask("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
        by_hub = api.ask("POST", "/api/v1/persistentvolumes?dryRun=All", disk, as_account=account)
        if "creator:" in by_admin.why and "root:" in by_hub.why:
            return
        assert time.monotonic() < deadline, f"the policies do not act: {by_admin}, {by_hub}"
        time.sleep(0.1)


_DISK = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "hostPath": {"path": "/elsewhere"}}


@pytest.fixture(scope="session")
def release(api: ApiServer, helm: Helm) -> Helm:
    """The chart as a site installs it: its users' namespace is *restricted*."""
    helm.install(RELEASE_NAMESPACE, VALUES)
    _accounts(api, USERS)
    _until_policies_act(api, USERS, HUB)
    return helm


def _without_pod_security(api: ApiServer, helm: Helm, users: str, home: str, **settings: Any) -> str:
    """One more release. Its users' namespace has no Pod Security, and its hub every right there."""
    _make(api, "/api/v1/namespaces", {"metadata": {"name": users}})
    _accounts(api, users)
    given = {**VALUES["users"], "namespace": users, "createNamespace": False, **settings}
    helm.install(home, {**VALUES, "users": given, "networkPolicy": False})
    account = f"{home}:{RELEASE}-hub"
    subject = {"kind": "User", "name": f"system:serviceaccount:{account}"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": "every-right"}, "roleRef": role, "subjects": [subject]}
    _make(api, f"/apis/rbac.authorization.k8s.io/v1/namespaces/{users}/rolebindings", binding)
    _until_policies_act(api, users, account)
    return users


@pytest.fixture(scope="session")
def policy_alone(api: ApiServer, helm: Helm) -> str:
    """A users' namespace where nothing but the policy refuses."""
    return _without_pod_security(api, helm, OPEN_USERS, OPEN_HOME)


@pytest.fixture(scope="session")
def loose_groups(api: ApiServer, helm: Helm) -> str:
    """The same, where groups need not be strict."""
    return _without_pod_security(api, helm, LOOSE_USERS, LOOSE_HOME, strictGroups=False)


def rule_of(answer: Answer) -> str:
    """The name of the rule by which a policy of the chart refused; empty where something else did."""
    _, found, said = answer.why.partition("denied request: ")
    return said.partition(":")[0] if found else ""
