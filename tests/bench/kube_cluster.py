"""A real API server full of simulated pods, and both sides of P6 and P7 on it, each in a process of its own.

Pods are simulated (kwok) and as large as ours: each carries the spec that KubeSpawner builds.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traitlets.config import Config

from daas_hub.backends import kube_pod
from daas_hub.backends.child import build_pod
from daas_hub.clients.kube import Kube, path
from daas_hub.clients.kube_table import ACCEPT
from daas_hub.core.models import Account, AccountGroup, Json, LaunchSpec, Resources
from daas_hub.core.naming import new_id
from tests.bench.peers import python_of
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster

AT_ONCE = 40
HERE = Path(__file__).parent
Found = Mapping[str, Any]


@dataclass(frozen=True)
class Full:
    """A namespace with that many pods that run."""

    cluster: Cluster
    namespace: str
    pods: int

    def begin(self, side: str, *, idle_s: float = 0.0, gap_s: float = 0.0) -> subprocess.Popen[str]:
        """Start one side: ``ours``, ``peer`` as installed, or seconds after which the peer's watch restarts."""
        env = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "PYTHONPATH": str(HERE.parents[1])}
        words = [self.namespace, str(idle_s), str(gap_s)]
        if side == "ours":
            argv = [sys.executable, str(HERE / "kube_ours.py"), str(self.cluster.kubeconfig), *words]
        else:
            watch_s = "0" if side == "peer" else side
            argv = [str(python_of("kubespawner")), str(HERE / "kube_peer.py"), *words, watch_s]
            env.pop("PYTHONPATH")
        return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen[str]) -> Found:
        """What a side measured; both must have found the same pods."""
        out, err = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{process.args}: {err[-2000:]}")
        result: Found = json.loads(out.splitlines()[-1])
        if result["found"] != self.pods:
            raise RuntimeError(f"{process.args} found {result['found']} of {self.pods} pods")
        return result


@contextmanager
def full(pods: int) -> Iterator[Full]:
    """A cluster of its own, filled."""
    cluster = Cluster().start()
    try:
        for number in range(1 + pods // 1000):
            cluster.add_simulated_node(f"simulated-{number}", pods="1000")
        with cluster.namespace() as namespace:
            asyncio.run(_fill(cluster, namespace, pods))
            cluster.until(lambda: _running(cluster, namespace) == pods, within_s=300, what="all pods run")
            yield Full(cluster, namespace, pods)
    finally:
        cluster.stop()


def same(sides: Sequence[Found]) -> bool:
    """Whether all sides found the same pods: the oracle."""
    return len({side["names"] for side in sides}) == 1


def medians(runs: Sequence[Found]) -> dict[str, float]:
    """Of every number."""
    return {key: statistics.median(run[key] for run in runs) for key, value in runs[0].items() if value != str(value)}


def _running(cluster: Cluster, namespace: str) -> int:
    async def count() -> int:
        kube = Kube(kubeconfig=str(cluster.kubeconfig))
        query: dict[str, str | int] = {"fieldSelector": "status.phase=Running", "includeObject": "None"}
        try:
            table, _ = await kube.page(path("pods", namespace), query, accept=ACCEPT, within_s=60)
        finally:
            await kube.close()
        return len(table["rows"])

    return asyncio.run(count())


async def _fill(cluster: Cluster, namespace: str, pods: int) -> None:
    kube = Kube(kubeconfig=str(cluster.kubeconfig))
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turn:
            await kube.call("POST", path("pods", namespace), body=await _pod(number, namespace))

    await asyncio.gather(*(one(number) for number in range(pods)))
    await kube.close()


async def _pod(number: int, namespace: str) -> Json:
    name = f"user{number}"
    groups = (AccountGroup(name, 20000 + number), AccountGroup("everybody", 19999))
    account = Account(
        new_id(), name, 20000 + number, 20000 + number, groups, f"/home/{name}", "/bin/sh", "t", datetime.now(UTC)
    )
    spec = LaunchSpec(
        launch_id=new_id(),
        hub_id="bench",
        account=account,
        user_name=name,
        server_name="",
        resources=Resources(cpu_limit=1.0, mem_limit_bytes=2**30),
        cmd=("jupyterhub-singleuser",),
        environment={f"JUPYTERHUB_SETTING_{n}": f"value-{n}" for n in range(25)},
        secrets={},
        mounts=(),
        service_prefix=f"/user/{name}/",
    )
    config = Config()
    config.KubeSpawner.image = "site/lab:1"
    config.KubeSpawner.tolerations = [{"key": SIMULATED, "operator": "Exists"}]
    config.KubeSpawner.node_selector = {SIMULATED: "fake"}
    built = await build_pod(spec, config=config, gpu_resource="nvidia.com/gpu")
    return kube_pod.own(built, spec, kube_pod.names_of(spec, namespace), (), kube_pod.Rules())


def row(
    goal: str, name: str, unit: str, ours: float, peer: float, target: str, met: bool, about: str
) -> dict[str, Any]:
    """One row of the bench."""
    ratio = peer / ours if ours else None
    return {"goal": goal, "name": name, "unit": unit, "ours": ours, "peer": peer, "ratio": ratio, "target": target,
            "met": met, "conditions": about}  # fmt: skip
