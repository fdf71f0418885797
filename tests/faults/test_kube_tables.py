"""Pods by tables, on a real API server: the same answers as from whole objects; whole objects where there are none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.kube_pods import slim_pod
from daas_hub.clients.kube import path
from daas_hub.core.models import Json, Life
from daas_hub.core.pods import address, observe, problem
from tests.faults.kube_tables import EVICTED, Place, is_watch, tables_place
from tests.servers.api_proxy import Fault
from tests.servers.kubernetes.cluster import Cluster
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig"), pytest.mark.timeout(240)]


@pytest.fixture
async def place(kube_rig: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    async with tables_place(kube_rig, tmp_path) as made:
        yield made


STATUSES: dict[str, dict[str, Any]] = {
    "exited": {"containerStatuses": [{"name": "notebook", "state": {"terminated": {"exitCode": 3}}}]},
    "out-of-memory": {
        "containerStatuses": [{"name": "notebook", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]
    },
    "evicted": EVICTED,
    "no-image": {
        "containerStatuses": [
            {"name": "notebook", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
        ]
    },
    "being-made": {"containerStatuses": [{"name": "notebook", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
    "failed-while-it-waits": {
        "phase": "Failed",
        "reason": "Evicted",
        "containerStatuses": [{"name": "notebook", "state": {"waiting": {"reason": "ContainerCreating"}}}],
    },
    "lost": {"phase": "Unknown"},
    "node-lost": {"reason": "NodeLost"},
    "not-ready": {"containerStatuses": [{"name": "notebook", "ready": False, "state": {"running": {}}}]},
    "disrupted": {
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
        "phase": "Failed",
    },
}
"""What kubelet, the node's watchers or an eviction may say of a pod."""


def meaning(pod: Json) -> tuple[Any, ...]:
    """All that consumers read of a pod."""
    gone = bool(pod["metadata"].get("deletionTimestamp"))
    return observe(pod), address(pod), problem(pod), pod["spec"].get("nodeName"), gone, pod["metadata"]["uid"]


async def test_rows_and_whole_objects_mean_the_same(place: Place) -> None:
    for name in STATUSES:
        await place.make(name)
    await place.make("placed-nowhere", node="")
    await place.make("two", containers=2)
    await place.make("held", finalizers=["example.org/never"])
    await place.until_running("held", *STATUSES)
    try:
        for name, status in STATUSES.items():
            filled = [
                {"image": "none", "imageID": "", "ready": False, "restartCount": 0, **one}
                for one in status.get("containerStatuses", ())
            ]
            await place.say(name, **{**status, **({"containerStatuses": filled} if filled else {})})
        said = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}]
        await place.say("placed-nowhere", conditions=said)
        await place.delete("held")
        whole = {item["metadata"]["name"]: item async for item in place.past.pages(path("pods", place.namespace))}
        assert len(whole) == len(STATUSES) + 6
        late = place.another()
        try:
            assert await late.synced(30)
            for pods in (place.pods, late):
                for name, pod in whole.items():
                    version = pod["metadata"]["resourceVersion"]
                    await until(
                        lambda pods=pods, name=name, version=version: pods.objects[name].version in ("", version),
                        within_s=20,
                        what=f"{name} as it is now",
                    )
                    uid = pod["metadata"]["uid"]
                    found = await pods.known(name, uid) or await pods.ask(place.namespace, name)
                    assert found is not None
                    assert meaning(slim_pod(found) if "containers" in found["spec"] else found) == meaning(pod), name
                    assert await pods.known(name, uid) is not None, f"{name} is asked again though nothing changed"
        finally:
            await late.close()
        assert all(asked.table for asked in place.proxy.asked if is_watch(asked))
    finally:
        await asyncio.to_thread(
            place.cluster.kubectl, "-n", place.namespace, "patch", "pod", "held", "--type=merge", "-p",
            '{"metadata": {"finalizers": null}}',
        )  # fmt: skip


async def test_a_running_pod_is_never_asked_and_one_that_ended_once(place: Place) -> None:
    uid = {name: (await place.past.call("GET", path("pods", place.namespace, name)))["metadata"]["uid"]
           for name in ("kept", "ending")}  # fmt: skip
    with place.pods.changes("ending") as changed:
        await place.say("ending", **EVICTED)
        await asyncio.wait_for(changed.wait(), 20)
    for _ in range(5):
        for name in ("kept", "ending"):
            found = await place.seen(name, uid[name])
            assert found is not None
            assert observe(found).life is (Life.RUNNING if name == "kept" else Life.ENDED)
    assert (place.asked_for("kept"), place.asked_for("ending")) == (1, 1), "once to know who it is"
    version = place.pods.objects["kept"].version
    await place.say("kept", conditions=[{"type": "Ready", "status": "True", "message": "as before"}])
    await until(lambda: place.pods.objects["kept"].version != version, within_s=20, what="a change that says nothing")
    assert await place.pods.known("kept", uid["kept"]) is not None
    assert place.asked_for("kept") == 1


async def test_another_pod_of_the_same_name_is_not_taken_for_it(place: Place) -> None:
    first = await place.seen("kept", "somebody else's")
    assert first is not None
    uid = first["metadata"]["uid"]
    assert await place.pods.known("kept", uid) is not None
    await place.delete("kept")
    await until(lambda: "kept" not in place.pods.objects, within_s=20, what="it is gone")
    await place.make("kept")
    await place.until_running("kept")
    assert await place.pods.known("kept", uid) is None
    again = await place.seen("kept", uid)
    assert again is not None
    assert again["metadata"]["uid"] != uid
    assert await place.pods.known("kept", again["metadata"]["uid"]) is not None


async def test_after_a_list_all_are_identified_by_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daas_hub.backends.kube_pods.FEW", 0)
    monkeypatch.setattr("daas_hub.backends.kube_pods.IDENTITIES", 2)
    names = ("kept", "going", "ending")
    uids = {
        name: (await place.past.call("GET", path("pods", place.namespace, name)))["metadata"]["uid"] for name in names
    }
    pods = place.another()
    try:
        assert await pods.synced(30)
        assert all(row.uid is None for row in pods.objects.values())
        before = place.proxy.count(lambda asked: asked.lists("pods"))
        found = await asyncio.gather(*(pods.known(name, uids[name]) for name in names))
        assert all(found)
        assert place.proxy.count(lambda asked: asked.lists("pods")) == before + 2, "two pages"
        assert not any(place.asked_for(name) for name in names)
        assert await pods.known("kept", "somebody else's") is None
    finally:
        await pods.close()


# ---------------------------------------------------------------- no tables, other tables


def renamed(body: bytes) -> bytes:
    """A table in which "Status" is called otherwise."""
    return body.replace(b'"name":"Status"', b'"name":"State"')


REFUSED = {
    "406": Fault(406),
    "415": Fault(415),
    "ignored": Fault(plain=True),
    "other columns": Fault(rewrite=renamed),
    "other cells": Fault(rewrite=lambda body: body.replace(b'"Running"', b"7")),
    "no version": Fault(rewrite=lambda body: body.replace(b'"metadata":{"resourceVersion"', b'"metadata":{"v"')),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_whole_objects_where_no_table_can_be_had(
    place: Place, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    await place.pods.close()
    place.proxy.set(lambda asked: REFUSED[what] if asked.path.endswith("/pods") and asked.table else None)
    pods = place.another()
    with caplog.at_level(logging.WARNING, "tables"):
        try:
            assert await pods.synced(30)
            assert all(row.whole is not None for row in pods.objects.values())
            uid = pods.objects["kept"].uid
            assert uid
            known = await pods.known("kept", uid)
            assert known is not None
            assert address(known)
            assert await pods.known("kept", "somebody else's") is None
            await place.say("ending", **EVICTED)
            await place.delete("going")
            await place.make("new")
            await until(lambda: "going" not in pods.objects and "new" in pods.objects, within_s=20, what="changes come")
            ended = pods.told("ending")
            assert ended is not None
            assert observe(ended).life is Life.ENDED
            assert not any(place.asked_for(name) for name in ("kept", "going", "ending", "new")), "all is known"
            assert pods.lists == 1
        finally:
            await pods.close()
    told = [record for record in caplog.records if "whole objects" in record.getMessage()]
    assert len(told) == (0 if what == "ignored" else 1)


async def test_a_watch_whose_columns_change_goes_on_with_whole_objects_and_lists_nothing(place: Place) -> None:
    """As after an upgrade of the API server: the list was a table that fits, the next watch's is another one."""
    lists = place.pods.lists
    place.proxy.set(lambda asked: Fault(ends=True) if is_watch(asked) else None)
    await place.delete("going")
    began = place.proxy.count(is_watch)
    await until(lambda: place.proxy.count(is_watch) > began, within_s=20, what="the next watch")
    place.proxy.set(lambda asked: Fault(rewrite=renamed) if is_watch(asked) else None)
    await until(lambda: "going" not in place.pods.objects, within_s=30, what="the event that did not fit")
    assert place.pods.lists == lists
    assert place.pods.objects["kept"].whole is None
    await place.say("kept", **EVICTED)
    await until(lambda: place.pods.objects["kept"].whole is not None, within_s=20, what="a whole object")
    pod = place.pods.told("kept")
    assert pod is not None
    assert observe(pod).life is Life.ENDED
