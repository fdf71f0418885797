"""From the request to a usable server on a real kubelet, beside one API request for the very same pod, and KubeSpawner.

The pod is the one that our hub made, asked for once more by itself: Secret, ConfigMap and claim exist already then. It
is usable when its server answers. The image is the tests' tiny server, so that a spawner's own time is not lost in it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from daas_hub.clients.kube import Kube, path
from daas_hub.core.models import LaunchState
from tests.bench.driven_hub import Server, route
from tests.bench.kube_sides import Side, names, sides
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import tiny_singleuser
from tests.waiting import until

GOAL = "P8-usable"
ROUNDS, LONG_ROUNDS = 5, 15
MOST_TIMES = 1.25
PORT = 8888


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part: a cluster with its real node, three ways to start one server, in turns. ``long``: 15 rounds."""
    return [lambda: _run(LONG_ROUNDS if long else ROUNDS)]


def _run(rounds: int) -> list[dict[str, Any]]:
    image = tiny_singleuser()
    cluster = Cluster().start()
    try:
        cluster.load(image.archive, image.name)
        return asyncio.run(_measure(cluster, image.name, rounds))
    finally:
        cluster.stop()


async def _measure(cluster: Cluster, image: str, rounds: int) -> list[dict[str, Any]]:
    people = names(1)
    server: Server = (people[0], "")
    found: dict[str, list[float]] = {"real": [], "raw": [], "peer": []}
    kube = Kube(kubeconfig=str(cluster.kubeconfig))
    pods = f'\nc.KubeSpawner.image = "{image}"\nc.KubeSpawner.image_pull_policy = "IfNotPresent"\n'
    async with sides(cluster, people, "real", "peer", pods=pods) as all_sides:
        ours, peer = all_sides["real"], all_sides["peer"]
        # The first one makes the home, and connections; it does not count.
        for number in range(rounds + 1):
            by_hub, objects = await _by_hub(ours, server, kube)
            by_hand = await _by_hand(kube, ours.namespace, objects)
            by_peer, _ = await _by_hub(peer, server, kube)
            if number:
                for name, seconds in (("real", by_hub), ("raw", by_hand), ("peer", by_peer)):
                    found[name].append(seconds)
    await kube.close()
    return _rows(rounds, found)


async def _by_hub(side: Side, server: Server, kube: Kube) -> tuple[float, dict[str, Any]]:
    """Start by REST, stop; seconds until the hub said ready, and what there was in the cluster."""
    side.driven.forget()
    began = time.time()
    ready = await side.driven.start_paced([server], every_s=0, body=side.body)
    seconds = ready[route(server)] - began
    (pod,) = (await kube.call("GET", path("pods", side.namespace)))["items"]
    assert await _answers(pod["status"]["podIP"], route(server)), "the hub says ready, and the server does not answer"
    objects = {"pod": pod}
    if side.site is not None:
        rows = await asyncio.to_thread(side.rows)
        assert rows == {server: LaunchState.RUNNING}
        for kind in ("secrets", "configmaps"):
            there = (await kube.call("GET", path(kind, side.namespace)))["items"]
            (objects[kind],) = [one for one in there if one["metadata"]["name"].startswith(pod["metadata"]["name"])]
    await side.driven.stop_all([server])
    await until(lambda: _none(kube, side.namespace), within_s=60, every_s=0.2, what="its pod is gone")
    return seconds, objects


async def _by_hand(kube: Kube, namespace: str, objects: dict[str, Any]) -> float:
    """Ask for the same pod under another name; seconds until its server answers."""
    old = objects["pod"]["metadata"]["name"]
    name = f"{old}-again"
    pod, secret, files = (_again(objects[kind], old, name) for kind in ("pod", "secrets", "configmaps"))
    await kube.call("POST", path("secrets", namespace), body=secret)
    await kube.call("POST", path("configmaps", namespace), body=files)
    prefix = next(e["value"] for e in pod["spec"]["containers"][0]["env"] if e["name"] == "JUPYTERHUB_SERVICE_PREFIX")
    began = time.time()
    await kube.call("POST", path("pods", namespace), body=pod)

    async def usable() -> bool:
        status = (await kube.call("GET", path("pods", namespace, name))).get("status") or {}
        return bool(status.get("podIP")) and await _answers(status["podIP"], prefix)

    await until(usable, within_s=90, every_s=0.02, what="the pod made by hand answers")
    seconds = time.time() - began
    for kind, made in (("pods", pod), ("secrets", secret), ("configmaps", files)):
        where = path(kind, namespace, made["metadata"]["name"])
        await kube.call("DELETE", where, body={"gracePeriodSeconds": 1})
    await until(lambda: _none(kube, namespace), within_s=60, every_s=0.2, what="the pod made by hand is gone")
    return seconds


def _again(one: dict[str, Any], old: str, name: str) -> dict[str, Any]:
    """The same object under another name, nobody's."""
    made: dict[str, Any] = json.loads(json.dumps(one).replace(old, name))
    made.pop("status", None)
    made["metadata"] = {"name": made["metadata"]["name"]}
    if "spec" in made:
        made["spec"].pop("nodeName", None)
    return made


async def _none(kube: Kube, namespace: str) -> bool:
    return not (await kube.call("GET", path("pods", namespace)))["items"]


async def _answers(ip: str, prefix: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
            http.get(f"http://{ip}:{PORT}{prefix}api") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _rows(rounds: int, found: dict[str, list[float]]) -> list[dict[str, Any]]:
    ours = statistics.median(found["real"])
    conditions = (
        f"median of {rounds} rounds, in turns; real kubelet, containerd and runc, the tests' tiny server; ours by REST "
        "with directory, profile, limits, a claim that exists and uid; by hand: one request for our own pod, all else "
        "made before; KubeSpawner 7.1.0 as installed, without a claim; every server answered, ledger = cluster"
    )
    rows = []
    for name, words, times in (("raw", "the same pod by one API request", 1 / MOST_TIMES), ("peer", "KubeSpawner", 1)):
        peer = statistics.median(found[name])
        rows.append(
            {
                "goal": GOAL,
                "name": f"from the request to a usable server, peer {words}",
                "unit": "s",
                "ours": ours,
                "peer": peer,
                "ratio": peer / ours,
                "target": f">= {times:g} x",
                "met": peer / ours >= times,
                "conditions": conditions,
            }
        )
    return rows
