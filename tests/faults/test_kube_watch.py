"""The watch alone, on a real API server: whatever happens to the server or to the way there, nothing is missed."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daas_hub.clients.kube import Kube, path
from daas_hub.clients.kube_watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, KubeWatch, pauses
from daas_hub.core.models import Json
from tests.faults.kube_faults import compact
from tests.servers.api_proxy import ApiProxy, Asked, Fault
from tests.servers.kubernetes.cluster import Cluster
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig"), pytest.mark.timeout(180)]

SILENT_S = 3.0


class Seen:
    """One watch of a namespace's ConfigMaps by way of the proxy, and a second opinion by kubectl."""

    def __init__(self, cluster: Cluster, namespace: str, proxy: ApiProxy, watch: KubeWatch) -> None:
        self.cluster, self.namespace, self.proxy, self.watch = cluster, namespace, proxy, watch

    async def put(self, name: str, value: str = "") -> None:
        """Make or change an object, past the proxy."""
        meta = {"name": name, "namespace": self.namespace, "labels": {"watched": "yes"}}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"value": value}}
        await asyncio.to_thread(self.cluster.apply, body)

    async def delete(self, name: str) -> None:
        """Delete one, past the proxy."""
        await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, "delete", "configmap", name)

    async def until(self, within_s: float = 40, **values: str) -> None:
        """Wait until the watch has exactly these objects with these values."""
        await until(lambda: dict(self.watch.objects) == values, within_s=within_s, what=f"the watch has {values}")

    def silence(self, asked: Asked) -> Fault | None:
        """For ``proxy.set``: neither watch nor list gets a word."""
        return Fault(silent=True) if asked.path.endswith("/configmaps") else None


def slim(item: Json) -> Json:
    """The value alone."""
    value: Json = item["data"].get("value", "")
    return value


@pytest.fixture
def silent_s() -> float:
    """After how long the watch takes silence for death."""
    return SILENT_S


@pytest.fixture
async def seen(kube_rig: Cluster, tmp_path: Path, silent_s: float) -> AsyncIterator[Seen]:
    proxy = await ApiProxy(kube_rig.keys, tmp_path).start()
    kube = Kube(kubeconfig=str(proxy.kubeconfig))
    try:
        with kube_rig.namespace() as namespace:
            log = logging.getLogger("watch")
            where = path("configmaps", namespace)
            watch = KubeWatch(kube, where, labels="watched=yes", log=log, slim=slim, silent_s=silent_s)
            made = Seen(kube_rig, namespace, proxy, watch)
            await made.put("kept", "1")
            await made.put("going", "1")
            assert await watch.synced(30)
            await made.until(kept="1", going="1")
            yield made
            await watch.close()
    finally:
        await kube.close()
        await proxy.stop()


@asynccontextmanager
async def api_server_down(cluster: Cluster) -> AsyncIterator[None]:
    """The API server is killed, and starts again after the block."""
    await asyncio.to_thread(cluster.control.api.stop, signal.SIGKILL)
    try:
        yield
    finally:
        cluster.control.api.start()
        await asyncio.to_thread(cluster.control.api.wait)


def is_list(asked: Asked) -> bool:
    """Whether it is a list of what is watched."""
    return asked.lists("configmaps")


async def test_a_watch_that_is_silently_dead_is_noticed_and_misses_nothing(seen: Seen) -> None:
    lists, failures = seen.proxy.count(is_list), seen.watch.failures
    seen.proxy.set(seen.silence)
    await seen.put("new", "1")
    await seen.delete("going")
    assert dict(seen.watch.objects) == {"kept": "1", "going": "1"}
    await until(lambda: seen.watch.failures > failures, within_s=SILENT_S * 4, what="the silence is noticed")
    assert not seen.watch.fresh(1000), "what a broken watch knows is still believed"
    assert (seen.watch.age_s or 0) >= SILENT_S
    seen.proxy.set()
    await seen.until(kept="1", new="1")
    assert seen.watch.fresh(SILENT_S)
    assert seen.proxy.count(is_list) == lists, "it resumes from its version"


@pytest.mark.parametrize("silent_s", [60.0])
async def test_the_api_server_is_restarted(seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    lists = seen.watch.lists
    with caplog.at_level(logging.INFO, "watch"):
        async with api_server_down(seen.cluster):
            await until(lambda: seen.watch.failures >= 4, within_s=30, what="it tries again and again")
            age_s = seen.watch.age_s or 0
            assert age_s > 0
            assert dict(seen.watch.objects) == {"kept": "1", "going": "1"}, "unknown is not gone"
        await seen.put("new", "1")
        await seen.delete("going")
        await seen.until(kept="1", new="1")
    assert seen.watch.lists <= lists + 1
    assert (seen.watch.age_s or 0) < age_s
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1, [record.getMessage() for record in told]


async def test_compacted_and_restarted_lists_once_and_tells_the_difference(seen: Seen) -> None:
    """The watch hears nothing while its version is compacted away and the API server loses its cache."""
    await seen.put("changing", "1")
    await seen.until(kept="1", going="1", changing="1")
    told: dict[str, asyncio.Event] = {}
    with (
        seen.watch.changes("kept") as told["kept"],
        seen.watch.changes("going") as told["going"],
        seen.watch.changes("changing") as told["changing"],
        seen.watch.changes("new") as told["new"],
    ):
        lists = seen.proxy.count(is_list)
        seen.proxy.set(seen.silence)
        await seen.put("new", "1")
        await seen.put("changing", "2")
        await seen.delete("going")
        await asyncio.to_thread(compact, seen.cluster)
        async with api_server_down(seen.cluster):
            pass
        assert not any(event.is_set() for event in told.values())
        seen.proxy.set()
        await seen.until(kept="1", changing="2", new="1")
        assert {name for name, event in told.items() if event.is_set()} == {"going", "changing", "new"}
        assert seen.proxy.count(is_list) == lists + 1
    await seen.put("later", "1")
    await seen.until(kept="1", changing="2", new="1", later="1")
    assert seen.proxy.count(is_list) == lists + 1, "it goes on from the list's version"


@pytest.mark.parametrize("status", [403, 429, 500])
async def test_refusals_are_told_once_and_cost_no_list(
    seen: Seen, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    lists = seen.proxy.count(is_list)
    with caplog.at_level(logging.WARNING, "watch"):
        seen.proxy.set(lambda asked: Fault(silent=True) if asked.watch else None)
        await until(lambda: seen.watch.failures >= 1, within_s=SILENT_S * 4, what="the open watch is given up")
        caplog.clear()
        seen.proxy.set(lambda asked: Fault(status) if asked.path.endswith("/configmaps") else None)
        began = seen.proxy.count(lambda asked: asked.watch)
        await seen.put("new", "1")
        await until(
            lambda: seen.proxy.count(lambda asked: asked.watch) >= began + 3, within_s=30, what="three refusals"
        )
        assert "new" not in seen.watch.objects
        assert len(caplog.records) <= 1
        seen.proxy.set()
        await seen.until(kept="1", going="1", new="1")
    assert seen.proxy.count(is_list) == lists


async def test_one_that_waits_for_what_was_gone_before_hears_of_it(seen: Seen) -> None:
    """After a restart of the hub, with the API server away: the first list does not have the pod that ended."""
    kube = Kube(kubeconfig=str(seen.proxy.kubeconfig))
    seen.proxy.set(lambda asked: Fault(500) if asked.path.endswith("/configmaps") else None)
    watch = KubeWatch(kube, path("configmaps", seen.namespace), log=logging.getLogger("second"), slim=slim)
    try:
        with watch.changes("long-gone") as changed:
            watch.start()
            await until(lambda: watch.failures >= 2, within_s=20, what="it cannot list")
            assert not changed.is_set()
            assert watch.age_s is None
            seen.proxy.set()
            await asyncio.wait_for(changed.wait(), 30)
    finally:
        await watch.close()
        await kube.close()


def test_pauses_grow_to_their_end_and_no_two_are_alike() -> None:
    both = [pauses(), pauses()]
    drawn = [[next(one) for _ in range(40)] for one in both]
    assert drawn[0] != drawn[1]
    for row in drawn:
        assert all(FIRST_PAUSE_S / 2 <= pause <= LONGEST_PAUSE_S for pause in row)
        assert min(row[10:]) >= LONGEST_PAUSE_S / 2
        assert len(set(row)) > 30
