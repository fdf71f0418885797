"""Pods by tables while the watch breaks in every way: nothing is missed, and nothing is listed but after 410."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.core.models import Life
from daas_hub.core.pods import observe
from tests.faults.kube_tables import EVICTED, Place, is_watch, tables_place
from tests.faults.test_kube_watch import compact
from tests.servers.api_proxy import Fault
from tests.servers.kubernetes.cluster import Cluster
from tests.waiting import until

pytestmark = [pytest.mark.needs("kube_rig"), pytest.mark.timeout(240)]


@pytest.fixture
async def place(kube_rig: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    async with tables_place(kube_rig, tmp_path) as made:
        yield made


CHAOS: dict[str, Fault] = {
    "half an event": Fault(half=True),
    "the connection breaks": Fault(breaks=True),
    "the server ends it": Fault(ends=True),
    "it hangs": Fault(silent=True),
    "410": Fault(410),
    "503": Fault(503),
}


@pytest.mark.parametrize("what", CHAOS)
async def test_nothing_is_missed_and_nothing_listed_but_after_410(place: Place, what: str) -> None:
    uid = place.pods.objects["going"].uid
    lists, fault = place.pods.lists, CHAOS[what]
    began = place.proxy.count(is_watch)
    if fault.status:
        # Watches that are open do not see a status: they are ended, and the next ones get it.
        place.proxy.set(lambda asked: Fault(fault.status, ends=True) if is_watch(asked) else None)
    else:
        place.proxy.set(lambda asked: fault if is_watch(asked) else None)
    with place.pods.changes("going") as ended, place.pods.changes("new") as came, place.pods.changes("kept") as same:
        await place.delete("going")
        await place.say("ending", **EVICTED)
        await place.make("new")
        await until(lambda: place.proxy.count(is_watch) >= began + 3, within_s=60, what="it tries again and again")
        place.proxy.set()
        await until(lambda: place.runs("new") and "going" not in place.pods.objects, within_s=60, what="all is known")
        await asyncio.wait_for(ended.wait(), 5)
        await asyncio.wait_for(came.wait(), 5)
        assert not same.is_set()
    await until(lambda: place.pods.told("ending") is None, within_s=20, what="the end is known")
    pod = await place.seen("ending")
    assert pod is not None
    assert observe(pod).life is Life.ENDED
    assert "memory" in observe(pod).reason
    assert await place.pods.known("going", uid) is None
    if what == "410":
        assert place.pods.lists > lists
    else:
        assert place.pods.lists == lists, "it resumes from its version"
    assert place.pods.fresh(60)


async def test_one_that_was_replaced_while_nobody_heard_is_told(place: Place) -> None:
    """After 410 a row like before may be another pod's: who waits is not told, but whoever asks learns it."""
    first = await place.seen("kept", "unknown yet")
    assert first is not None
    uid = first["metadata"]["uid"]
    place.proxy.set(lambda asked: Fault(410, ends=True) if is_watch(asked) else None)
    await place.delete("kept")
    await place.make("kept")
    lists = place.pods.lists
    await until(lambda: place.pods.lists > lists, within_s=30, what="it lists anew")
    place.proxy.set()
    await place.until_running("kept")
    assert await place.pods.known("kept", uid) is None
    again = await place.seen("kept", uid)
    assert again is not None
    assert again["metadata"]["uid"] != uid


async def test_bookmarks_alone_keep_it_fresh_and_carry_it_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server ends each watch with a bookmark: the next one begins there, though no pod has changed."""
    monkeypatch.setattr("daas_hub.clients.kube_watch.WATCH_S", 4)
    place.proxy.set(lambda asked: Fault(ends=True) if is_watch(asked) else None)
    began = place.proxy.count(is_watch)
    await until(lambda: place.proxy.count(is_watch) > began, within_s=20, what="a new watch")
    place.proxy.set()
    lists, rows = place.pods.lists, dict(place.pods.objects)
    seen: set[str] = set()
    for number in range(8):
        if len(seen) >= 3:
            # A bookmark may be older than a pod that was made a moment before it.
            break
        await place.make(f"other-{number}", labels={})
        began = place.proxy.count(is_watch)
        await until(lambda began=began: place.proxy.count(is_watch) > began, within_s=30, what="the next watch")
        seen |= {
            asked.query.split("resourceVersion=")[1].split("&")[0] for asked in place.proxy.asked if is_watch(asked)
        }
    await asyncio.to_thread(compact, place.cluster)
    assert len(seen) >= 3, "each goes on from a later version"
    assert place.pods.lists == lists
    assert all(place.pods.objects[name] is row for name, row in rows.items())
    await place.delete("going")
    await until(lambda: "going" not in place.pods.objects, within_s=30, what="it still hears")
    assert place.pods.lists == lists
