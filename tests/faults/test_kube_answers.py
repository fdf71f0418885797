"""An API server that answers wrongly, slowly or not at all, and rights that are taken away: told, nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.aftermath import agreed, faulty_site, watched_kube_site
from tests.faults.kube_faults import active, ended, pod_uids, ready, start
from tests.flow.kube_site import KubeSite
from tests.servers.api_proxy import ApiProxy, Fault
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import LONG, until

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(240)]

FAULTS = {
    "429": Fault(429),
    "500": Fault(500),
    "answers after 30 s": Fault(slow_s=30),
    "silence": Fault(silent=True),
}


@pytest.fixture
async def proxy(kube_rig: Cluster, tmp_path: Path) -> AsyncIterator[ApiProxy]:
    made = await ApiProxy(kube_rig.keys, tmp_path).start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image, proxy: ApiProxy) -> AsyncIterator[KubeSite]:
    more = f"c.KubeBackend.kubeconfig = {str(proxy.kubeconfig)!r}\n"
    with kube_rig.namespace(**RESTRICTED) as namespace:
        made = watched_kube_site(kube_rig, namespace, tiny.name, more=more)
        try:
            async with faulty_site("ada", "bob", site=made):
                await start(made, "ada")
                yield made
                proxy.set()
        finally:
            proxy.set()


async def test_wrong_slow_and_missing_answers(site: KubeSite, proxy: ApiProxy) -> None:
    before, pods = await active(site), await pod_uids(site)
    for name, fault in FAULTS.items():
        proxy.set(lambda _, fault=fault: fault)
        said = len(site.hub.log_text())
        status, answer = await site.hub.api("POST", "users/bob/server")
        assert status in (202, 503), (name, answer)
        await until(lambda: over(site, "bob"), within_s=60, every_s=0.3, what=f"{name}: bob's start is over")
        assert await ready(site, "ada"), name
        assert (await active(site))["ada"].id == before["ada"].id, name
        new = site.hub.log_text()[said:].splitlines()
        assert len([line for line in new if "begins again" in line]) <= 6, (name, new)
        assert [line for line in new if "cannot be asked" in line], name
        proxy.set()
        # Without a restart of anything.
        await until(lambda: started(site, "bob"), within_s=60, every_s=0.5, what=f"after {name}: bob starts")
        status, _ = await site.hub.api("DELETE", "users/bob/server")
        assert status in (202, 204)
        await agreed(site, within_s=60)
    assert (await pod_uids(site))["ada"] == pods["ada"]


async def test_rights_are_taken_away_and_given_back(kube_rig: Cluster, tiny: Image, tmp_path: Path) -> None:
    with kube_rig.namespace(**RESTRICTED) as namespace:
        rights = Rights(kube_rig, namespace)
        kubeconfig = await asyncio.to_thread(rights.give, tmp_path)
        made = watched_kube_site(kube_rig, namespace, tiny.name, more=f"c.KubeBackend.kubeconfig = {kubeconfig!r}\n")
        async with faulty_site("ada", "bob", site=made) as site:
            await start(site, "ada")
            before, pods = await active(site), await pod_uids(site)
            await asyncio.to_thread(rights.take)
            status, answer = await site.hub.api("POST", "users/bob/server")
            assert status in (500, 503), answer
            assert "Ask the administrator" in answer["message"], answer
            await until(lambda: over(site, "bob"), within_s=30, every_s=0.2, what="bob's start is over")
            if LONG:
                status, _ = await site.hub.api("DELETE", "users/ada/server")
                assert status in (202, 204)
                await until(lambda: over(site, "ada"), within_s=60, every_s=0.2, what="the hub has given up")
            assert (await active(site))["ada"].id == before["ada"].id, "what cannot be told was taken for ended"
            assert await pod_uids(site) == pods
            await until(lambda: "Backend kubernetes cannot be asked" in site.hub.log_text(), within_s=30, every_s=0.2)
            assert "forbidden" in site.hub.log_text(), "the log does not say which right is missing"
            await asyncio.to_thread(rights.give, tmp_path)
            await until(lambda: started(site, "bob"), within_s=60, every_s=0.5, what="bob starts")
            told = "Backend kubernetes can be asked again"
            await until(lambda: told in site.hub.log_text(), within_s=30, every_s=0.2, what="the reconciler goes on")
            assert site.hub.log_text().count("Backend kubernetes cannot be asked") == 1
            if LONG:
                await ended(site, before["ada"].id, within_s=150)


class Rights:
    """A service account that may do all in one namespace, and what a hub may do in the cluster."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def give(self, folder: Path) -> str:
        """Make account and rights, where they are missing; the path of a kubeconfig."""
        space = self.namespace
        who = [{"kind": "ServiceAccount", "name": "hub", "namespace": space}]
        rbac = "rbac.authorization.k8s.io"
        whole = [{"apiGroups": [""], "resources": ["nodes", "persistentvolumes"], "verbs": ["*"]}]
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub", "namespace": space}},
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": space}, "rules": whole},
            {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": space}, "subjects": who,
             "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": space}},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": "hub", "namespace": space},
             "subjects": who, "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"}},
        )  # fmt: skip
        path = folder / "hub.kubeconfig"
        if not path.exists():
            token = self.cluster.kubectl("-n", space, "create", "token", "hub", "--duration=1h").strip()
            config = json.loads(self.cluster.kubeconfig.read_text())
            config["users"][0]["user"] = {"token": token}
            path.touch(mode=0o600)
            path.write_text(json.dumps(config))
        return str(path)

    def take(self) -> None:
        """The account stays; it may do nothing."""
        self.cluster.kubectl("-n", self.namespace, "delete", "rolebinding", "hub")
        self.cluster.kubectl("delete", "clusterrolebinding", self.namespace)
        self.cluster.kubectl("delete", "clusterrole", self.namespace)


async def over(site: KubeSite, name: str) -> bool:
    """Whether nothing of hers is pending or counted as running."""
    now = await active(site)
    return name not in now or now[name].state == "stopping"


async def started(site: KubeSite, name: str) -> bool:
    """Start her server, where it does not run yet."""
    if await ready(site, name):
        return True
    status, answer = await site.hub.api("POST", f"users/{name}/server")
    assert status in (201, 202, 400, 409, 503), answer
    return False
