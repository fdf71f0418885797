"""Many starts of one server, and starts that are stopped at every moment: one server, or nothing at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults import kube_aftermath
from tests.faults.aftermath import agreed, faulty_site, watched_kube_site
from tests.faults.kube_faults import GONE_WITHIN_S, active, pod_uids, ready, rows
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.waiting import LONG, until

pytestmark = [pytest.mark.needs("kube_rig", "slapd", "root"), pytest.mark.timeout(900 if LONG else 240)]

STARTS = 100
POINTS = 50 if LONG else 8
STOP_LATEST_S = 4.0
"""The last of the moments at which a start is stopped: a server answers after about as long."""


@pytest.fixture
async def site(kube_rig: Cluster, tiny: Image) -> AsyncIterator[KubeSite]:
    with kube_rig.namespace(**RESTRICTED) as namespace:
        async with faulty_site("ada", "bob", site=watched_kube_site(kube_rig, namespace, tiny.name)) as made:
            yield made


async def test_a_hundred_starts_are_one_server(site: KubeSite) -> None:
    # Each from a thread of its own: the loop's own pool has only a few.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(STARTS))
    answers = await asyncio.gather(*(site.hub.api("POST", "users/ada/server") for _ in range(STARTS)))
    counted = Counter(status for status, _ in answers)
    # JupyterHub answers 400 while a start is pending, and 500 where it has become so during the request (base.py).
    assert counted.keys() <= {201, 202, 400, 500}, counted
    assert counted[500] == site.hub.log_text().count("RuntimeError: ada pending spawn")
    assert counted[201] + counted[202] >= 1
    await until(lambda: ready(site, "ada"), within_s=60, every_s=0.2, what="ada's server")
    assert list(await pod_uids(site)) == ["ada"]
    assert len(await rows(site)) == 1
    there = Counter(one["kind"] for one in await asyncio.to_thread(kube_aftermath.objects, site))
    assert there == {"Pod": 1, "Secret": 1, "ConfigMap": 1}
    # What a hundred requests in one moment cost JupyterHub's loop is not ours; all that comes after is measured.
    site.hub.forget_gaps()
    status, tokens = await site.hub.api("GET", "users/ada/tokens")
    assert status == 200
    assert len([one for one in tokens["api_tokens"] if "Server at" in (one["note"] or "")]) == 1, tokens


async def test_a_start_that_is_stopped_at_any_moment_leaves_nothing(site: KubeSite) -> None:
    for point in range(POINTS):
        call = asyncio.create_task(site.hub.api("POST", "users/bob/server"))
        # The moment is the fault: there is nothing to wait for.
        await asyncio.sleep(STOP_LATEST_S * point / (POINTS - 1))
        await until(lambda: stopped(site, "bob"), within_s=90, every_s=0.3, what=f"point {point}: bob has no server")
        status, answer = await call
        assert status < 500 or "message" in answer, answer
    await agreed(site, within_s=GONE_WITHIN_S)
    assert await active(site) == {}
    assert await asyncio.to_thread(kube_aftermath.objects, site) == []
    assert len(await rows(site)) <= POINTS


async def stopped(site: KubeSite, name: str) -> bool:
    """Ask for the end, once more where it was too early for the hub, and say whether it is there."""
    status, answer = await site.hub.api("DELETE", f"users/{name}/server")
    if status == 500:
        # JupyterHub gives a start that it cancels one second (apihandlers/users.py); on a busy machine it needs longer.
        assert f"RuntimeError: {name} pending " in site.hub.log_text(), f"{answer}\n{site.hub.log_text()[-4000:]}"
        return False
    assert status in (202, 204, 400, 404), answer
    model = await site.hub.server(name)
    return (model is None or bool(model["stopped"])) and name not in await active(site)
