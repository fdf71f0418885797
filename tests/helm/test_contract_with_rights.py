"""The backends' contract once more, as a site has it: the chart's rights, namespace and policies on a real cluster.

All of it in the long run; otherwise its ends: a start, a look from another process, a stop, a clean-up.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import BackendContract, Saved
from tests.servers.kube_place import KubePlace
from tests.servers.kubernetes.client import KubectlFailed
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import LONG

from .chart import RELEASE, Helm

ALWAYS = {
    "test_a_server_runs_as_the_account_and_answers",
    "test_a_server_that_ends_first_is_a_failed_start",
    "test_cleanup_leaves_the_home_and_may_be_repeated",
    "test_another_instance_finds_resumes_waits_and_stops",
}
pytestmark = [pytest.mark.needs("kubernetes", "kube_rig"), pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Installed:
    """A release on the cluster, and the kubeconfig of its hub."""

    home: str
    users: str
    kubeconfig: Path


@pytest.fixture(scope="module")
def installed(kube_rig: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    key, folder = new_id()[:8], tmp_path_factory.mktemp("release")
    home, users = f"hub-{key}", f"users-{key}"
    helm = Helm(kube_rig.programs["helm"], folder, kube_rig.kubeconfig)
    # The hub's own pods need images that are not this test's: nobody waits for them.
    helm.install(home, {"hubId": "contract", "users": {"namespace": users}})
    token = kube_rig.kubectl("create", "token", f"{RELEASE}-hub", "-n", home).strip()
    config = json.loads(kube_rig.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    kubeconfig = folder / "hub.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    kube_rig.until(lambda: kube_rig.get("serviceaccount", "default", users), what="the namespace's account")
    try:
        yield Installed(home, users, kubeconfig)
    finally:
        helm.must("uninstall", RELEASE, "--namespace", home)
        kube_rig.kubectl("delete", "namespace", home, users, "--wait=false")


@pytest.fixture
async def place(kube_rig: Cluster, tiny: Image, installed: Installed) -> AsyncIterator[KubePlace]:
    made = KubePlace(
        kube_rig,
        installed.users,
        tiny.name,
        # One namespace for all tests: disks outlive a test, and nobody new is given a home that is there.
        home=f"/home/zora-{new_id()[:8]}",
        kubeconfig=str(installed.kubeconfig),
        require_strict_groups=True,
    )
    try:
        yield made
    finally:
        await made.close()


class TestKubernetesByTheHubsOwnRights(BackendContract):
    end_within_s = 20.0
    stop_within_s = 30.0

    async def test_what_an_operator_deletes_takes_all_with_it(self, place: KubePlace, saved: Saved) -> None:
        """The cluster's own controllers work beside the policy, also where they write finalizers of pods."""
        spec, _ = await self.begin(place, saved)
        pod = saved.last["pod"]
        await place.ask("delete", "pod", pod, "--cascade=foreground", "--grace-period=2", "--wait=false")
        assert (await place.backend.wait_ended(saved.last)).life is Life.ENDED
        for kind in ("pod", "secret", "configmap"):
            await place.ask("wait", kind, "-l", f"daas-hub/launch={spec.launch_id}", "--for=delete", "--timeout=60s")
            assert await place.ask("get", kind, "-l", f"daas-hub/launch={spec.launch_id}", "-o", "name") == ""

    async def test_nobody_gets_into_a_running_pod_by_another_container(self, place: KubePlace, saved: Saved) -> None:
        await self.begin(place, saved)
        with pytest.raises(KubectlFailed, match="creator: only the hub makes and changes pods here, not admin"):
            await place.ask("debug", saved.last["pod"], "--image=example.org/debug:1", "--profile=restricted")


if not LONG:
    for name in dir(BackendContract):
        if name.startswith("test_") and name not in ALWAYS:
            setattr(TestKubernetesByTheHubsOwnRights, name, None)


@pytest.mark.parametrize("what", ["pods", "volumes"])
def test_the_cluster_finds_no_fault_in_a_policys_types(kube_rig: Cluster, installed: Installed, what: str) -> None:
    """The controller manager compiles each expression against every kind of object that it is asked about."""
    name = f"{installed.home}-{RELEASE}-{what}"

    def looked_at() -> dict[str, Any]:
        policy = kube_rig.get("validatingadmissionpolicy", name)
        status: dict[str, Any] = policy.get("status", {})
        return status if status.get("observedGeneration") == policy["metadata"]["generation"] else {}

    status = kube_rig.until(looked_at, what=f"the policy {name} is type-checked")
    assert status.get("typeChecking", {}).get("expressionWarnings", []) == []
