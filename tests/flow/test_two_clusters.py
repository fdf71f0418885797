"""One hub, a real Kubernetes cluster and a real SLURM cluster that share the homes: the same server on both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from daas_hub.core.models import ACTIVE
from daas_hub.core.naming import new_id
from tests.flow.slurm_site import SlurmSite
from tests.servers.kernels import ServerApi
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.reachable_python import singleuser
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("kube_rig", "images", "slapd", "root"),
    pytest.mark.timeout(360),
    pytest.mark.asyncio(loop_scope="module"),
    newer_when_long,
]
BOTH = """
from datetime import timedelta
from daas_hub.backends import kube_capacity, slurm_capacity
# What a test has just filled is seen at once.
kube_capacity.LOOK_EVERY_S, slurm_capacity.KEPT_FOR = 0.0, timedelta(0)
c.KubeBackend.kubeconfig = {kubeconfig!r}
c.KubeBackend.namespace = {namespace!r}
c.KubeBackend.cluster_grows = False
c.KubeBackend.stop_grace_s = 3
c.KubeBackend.volume_roots = [{{"hostPath": {{"path": {homes!r}}}}}]
c.KubeBackend.volumes = {{"home": {{"kind": "hostPath", "path": {homes!r} + "/{{username}}"}}}}
c.KubeSpawner.image = {image!r}
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.DaasSpawner.placement_preferred = ["kubernetes", "slurm"]
c.DaasSpawner.profile_list = [{{
    "display_name": "Notebook", "slug": "notebook", "default": True, "backend": "auto",
    "resources": {{"cpu_limit": 1, "mem_limit": "1G"}},
    "slurm_override": {{"partition": "cpu"}}, "software": {{"venv": {venv!r}}},
}}]
"""
WHO = "import grp, os; print(os.getuid(), os.getgid(), sorted(set(os.getgroups())))"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(kube_rig: Cluster, slurm_any: Slurm, project_image: Callable[[str], Image]) -> AsyncIterator[SlurmSite]:
    image, venv = project_image("singleuser-base"), Path(await asyncio.to_thread(singleuser)).parents[1]
    with kube_rig.namespace(**RESTRICTED) as namespace:
        more = BOTH.format(
            kubeconfig=str(kube_rig.kubeconfig),
            namespace=namespace,
            homes=str(slurm_any.homes),
            image=image.name,
            venv=str(venv),
        )
        made = SlurmSite(slurm_any, more=more, kubernetes=True, cmd=["jupyterhub-singleuser"], proxy=False)
        made.hub_host = kube_rig.host
        try:
            await made.start()
            await made.sign_in("ada")
            yield made
        finally:
            await made.stop()
            words = ["delete", "pv", "-l", f"daas-hub/hub={made.hub_id}", "--wait=false"]
            await asyncio.to_thread(kube_rig.kubectl, *words)


async def started(site: SlurmSite, kube: Cluster, **options: str) -> tuple[dict[str, Any], ServerApi]:
    """Start ada's server; what is stored of where it went, and the server itself."""
    status, said = await site.hub.start_server("ada", options={"profile": "notebook", **options})
    assert status in (201, 202), said
    row = (await asyncio.to_thread(site.launches))[0]
    assert row.handle is not None
    if row.backend == "kubernetes":
        pod = await asyncio.to_thread(kube.get, "pod", row.handle["pod"], row.handle["namespace"])
        url = f"http://{pod['status']['podIP']}:8888"
    else:
        url = f"http://{site.cluster.world.addresses[row.handle['node']]}:{row.handle['port']}"
    return row.request["placement"], ServerApi(f"{url}/user/ada/", site.hub.token)


async def stopped(site: SlurmSite) -> None:
    await site.hub.stop_server("users/ada/server")
    await until(lambda: none_active(site), within_s=60, what="the launch ended")


async def none_active(site: SlurmSite) -> bool:
    return all(row.state not in ACTIVE for row in await asyncio.to_thread(site.launches))


async def test_the_same_profile_on_one_and_then_on_the_other(site: SlurmSite, kube_rig: Cluster) -> None:
    """Same uid, groups, home, file and kernel, by one session on each."""
    ada, seen = site.person("ada"), []
    for place in ("kubernetes", "slurm", "kubernetes"):
        kept, server = await started(site, kube_rig, placement=place)
        assert kept["chosen"].partition(":")[0] == place
        specs = await server.get("api/kernelspecs")
        kernel = await server.new_kernel(specs["default"])
        who = await server.run(kernel, WHO)
        home = await server.run(kernel, "print(os.path.expanduser('~'), os.environ['HOME'])")
        before = await server.run(
            kernel, "p = os.path.expanduser('~/notes'); print(open(p).read() if os.path.exists(p) else '')"
        )
        await server.run(kernel, f"open(p, 'a').write('{place} ')")
        language = await server.run(kernel, "import sys; print(sys.implementation.name, sys.version_info.major)")
        seen.append((who, home, specs["default"], specs["kernelspecs"]["python3"]["spec"]["language"], language))
        assert before.split() == ["kubernetes", "slurm", "kubernetes"][: len(seen) - 1]
        await stopped(site)
    assert len(set(seen)) == 1, seen
    who, home, kernel, *_ = seen[0]
    assert who.split()[:2] == [str(ada.uid), str(ada.gid)]
    assert (home.split(), kernel) == ([str(site.homes / "ada")] * 2, "python3")
    notes = site.homes / "ada" / "notes"
    assert (notes.read_text().split(), notes.stat().st_uid) == (["kubernetes", "slurm", "kubernetes"], ada.uid)


@asynccontextmanager
async def kubernetes_full(kube: Cluster, image: str) -> AsyncIterator[None]:
    """Somebody else's pod has all but half a core of what the node still has."""
    (node,) = json.loads(await asyncio.to_thread(kube.kubectl, "get", "nodes", "-o", "json"))["items"]
    pods = json.loads(await asyncio.to_thread(kube.kubectl, "get", "pods", "-A", "-o", "json"))["items"]
    taken = sum(asked(pod) for pod in pods if pod["status"].get("phase") in ("Running", "Pending"))
    request = f"{int((cores(node['status']['allocatable']['cpu']) - taken - 0.5) * 1000)}m"
    name = f"hog-{new_id()[:8]}"
    container = {"name": "c", "image": image, "command": ["sleep", "900"], "resources": {"requests": {"cpu": request}}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
    await asyncio.to_thread(kube.apply, pod)
    try:
        await asyncio.to_thread(kube.pod_in_phase, name, "default", "Running")
        yield
    finally:
        await asyncio.to_thread(kube.kubectl, "delete", "pod", name, "-n", "default", "--wait=true")


def asked(pod: dict[str, Any]) -> float:
    return sum(cores(c.get("resources", {}).get("requests", {}).get("cpu", "0")) for c in pod["spec"]["containers"])


def cores(quantity: str) -> float:
    """A number of cores as Kubernetes writes it."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


async def test_a_full_cluster_is_passed_over(site: SlurmSite, kube_rig: Cluster, tiny: Image) -> None:
    async with kubernetes_full(kube_rig, tiny.name):
        kept, server = await started(site, kube_rig)
        assert kept["chosen"].startswith("slurm")
        assert (await server.get("api"))["version"]
        assert kept["reason"].startswith("Now on SLURM"), kept
        assert [each["fit"] for each in kept["candidates"]] == ["now", "later"]
        await stopped(site)


@asynccontextmanager
async def slurm_full(slurm: Slurm) -> AsyncIterator[None]:
    """Bob's jobs have every core of the partition for 20 minutes."""
    words = ("--partition=cpu", "--cpus-per-task=8", "--mem=1000M", "--time=20")
    job = await asyncio.to_thread(slurm.submit, "sleep 900", *words, user="bob")
    await asyncio.to_thread(slurm.in_state, job, "RUNNING")
    try:
        yield
    finally:
        await asyncio.to_thread(slurm.run, "scancel", job)


async def test_both_full_is_a_queue_with_an_estimate(site: SlurmSite, kube_rig: Cluster, tiny: Image) -> None:
    """SLURM knows when its jobs end at the latest, so she waits there; and gets in when one has ended before."""
    async with kubernetes_full(kube_rig, tiny.name):
        async with slurm_full(site.cluster):
            start = asyncio.create_task(site.hub.api("POST", "users/ada/server", {"profile": "notebook"}))
            await until(lambda: waits(site), within_s=60, what="her job waits")
            row = (await asyncio.to_thread(site.launches))[0]
            kept = row.request["placement"]
            assert kept["reason"].startswith("On SLURM partition cpu at about "), kept
            assert kept["reason"].endswith("Nothing has room just now: it waits in the queue there."), kept
            assert [(each["place"], each["fit"]) for each in kept["candidates"]] == [
                ("slurm:cpu", "later"),
                ("kubernetes", "later"),
            ]
        await start
        await until(lambda: ready(site), within_s=90, what="her server is ready")
        assert (await asyncio.to_thread(site.launches))[0].id == row.id
        await stopped(site)


async def waits(site: SlurmSite) -> bool:
    rows = await asyncio.to_thread(site.launches)
    return any(row.state in ACTIVE and bool((row.handle or {}).get("job_id")) for row in rows)


async def ready(site: SlurmSite) -> bool:
    server = await site.hub.server("ada")
    return server is not None and bool(server["ready"])
