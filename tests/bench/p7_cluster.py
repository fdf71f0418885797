"""Cold list of 5,000 pods and (P6) the idle watch on a real API server, against KubeSpawner's reflector.

Pods are simulated (kwok) and as large as ours: each carries the spec that KubeSpawner builds. Both sides run in a
process of their own, in turns; the peer as installed, and tuned to restart its watch every 600 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from traitlets.config import Config

from daas_hub.backends import kube_pod
from daas_hub.backends.child import build_pod
from daas_hub.clients.kube import Kube, path
from daas_hub.core.models import Account, AccountGroup, Json, LaunchSpec, Resources
from daas_hub.core.naming import new_id
from tests.bench.peers import python_of
from tests.servers.kubernetes.addons import SIMULATED
from tests.servers.kubernetes.cluster import Cluster

GOAL = "P7"
PODS, LONG_PODS = 1_000, 5_000
IDLE_S, LONG_IDLE_S = 30.0, 90.0
ROUNDS = 3
TUNED_S = 600
AT_ONCE = 40
FLOOR_CPU = 1e-4
"""A share of a core below which a ratio says nothing."""


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster full of pods, every side in turns. ``long``: 5,000 pods instead of 1,000."""
    return [partial(_run, *((LONG_PODS, LONG_IDLE_S) if long else (PODS, IDLE_S)))]


def _run(pods: int, idle_s: float) -> list[dict[str, Any]]:
    cluster = Cluster().start()
    try:
        for number in range(1 + pods // 1000):
            cluster.add_simulated_node(f"simulated-{number}", pods=1000)
        with cluster.namespace() as namespace:
            asyncio.run(_fill(cluster, namespace, pods))
            cluster.until(lambda: _running(cluster, namespace) == pods, within_s=300, what="all pods run")
            sides: dict[str, list[dict[str, float]]] = {"ours": [], "peer": [], "tuned": []}
            for _ in range(ROUNDS):
                for side, found in sides.items():
                    found.append(_side(side, cluster, namespace, idle_s))
                    assert found[-1]["found"] == pods, found[-1]
    finally:
        cluster.stop()
    return _rows(pods, idle_s, {side: _medians(runs) for side, runs in sides.items()})


def _running(cluster: Cluster, namespace: str) -> int:
    said = cluster.kubectl("get", "pods", "-n", namespace, "--field-selector=status.phase=Running", "-o", "name")
    return len(said.splitlines())


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


def _side(side: str, cluster: Cluster, namespace: str, idle_s: float) -> dict[str, float]:
    here = Path(__file__).parent
    if side == "ours":
        argv = [sys.executable, str(here / "kube_ours.py"), str(cluster.kubeconfig), namespace, str(idle_s)]
    else:
        watch_s = TUNED_S if side == "tuned" else 0
        argv = [str(python_of("kubespawner")), str(here / "kube_peer.py"), namespace, str(idle_s), str(watch_s)]
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PYTHONPATH": str(here.parents[1])}
    if side != "ours":
        env.pop("PYTHONPATH")
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _rows(pods: int, idle_s: float, sides: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    ours = sides["ours"]
    rows = []
    for side, words, idle_ratio in (("peer", "as installed", 30.0), ("tuned", f"tuned: {TUNED_S} s", 3.0)):
        peer = sides[side]
        about = (
            f"{pods:,} simulated pods on a real API server; median of {ROUNDS}, in turns; KubeSpawner 7.1.0 {words}; "
            f"idle for {idle_s:g} s; longest gaps of the loop: cold {ours['cold_gap_s'] * 1e3:.1f} against "
            f"{peer['cold_gap_s'] * 1e3:.1f} ms, idle {ours['idle_gap_s'] * 1e3:.1f} against "
            f"{peer['idle_gap_s'] * 1e3:.1f} ms"
        )
        rows += [
            _row("P7", f"CPU of the cold list, {words}", "s", ours["cold_cpu_s"], peer["cold_cpu_s"], 15.0, about),
            _row("P6", f"CPU while idle, {words}", "cores", ours["idle_cpu"], peer["idle_cpu"], idle_ratio, about),
            _row(
                "P6",
                f"memory per pod, {words}",
                "bytes",
                ours["rss_bytes"] / pods,
                peer["rss_bytes"] / pods,
                10.0,
                about,
            ),
        ]
    for goal, key, limit_s in (("P7", "cold_gap_s", 0.025), ("P6", "idle_gap_s", 0.05)):
        row = _row(goal, f"longest gap of the loop, {key[:4]}", "s", ours[key], sides["peer"][key], 1.0, about)
        rows.append({**row, "target": f"<= {limit_s * 1e3:g} ms", "met": ours[key] <= limit_s})
    return rows


def _row(goal: str, name: str, unit: str, ours: float, peer: float, times: float, about: str) -> dict[str, Any]:
    ratio = peer / max(ours, FLOOR_CPU if unit == "cores" else 1e-9)
    return {
        "goal": goal,
        "name": name,
        "unit": unit,
        "ours": ours,
        "peer": peer,
        "ratio": ratio,
        "target": f">= {times:g} x",
        "met": ratio >= times,
        "conditions": about,
    }
