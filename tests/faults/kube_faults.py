"""What the tests of faults on a real cluster share: launches and pods of a site, an API server that goes away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from daas_hub.core.models import ACTIVE, LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.kube_site import KubeSite
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.control import ETCD
from tests.waiting import until

GONE_WITHIN_S = 120
"""After a fault nothing is left over for longer than this, in seconds."""
_COMPACT = """
import json, sys, urllib.request
ask = lambda what, body: json.load(urllib.request.urlopen(sys.argv[1] + what, json.dumps(body).encode(), timeout=10))
revision = ask("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
ask("/v3/kv/compaction", {"revision": revision, "physical": True})
print(revision)
"""


def compact(cluster: Cluster) -> None:
    """Forget all versions but the present one, in etcd; the API server may be away. Blocks."""
    argv = [*cluster.space.enter(net_only=True), sys.executable, "-I", "-c", _COMPACT, ETCD]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0


@asynccontextmanager
async def api_server_down(cluster: Cluster) -> AsyncIterator[Callable[[], float]]:
    """The API server is killed, and starts again after the block. What is given: for how many seconds it is away."""
    await asyncio.to_thread(cluster.control.api.stop, signal.SIGKILL)
    began_at = time.monotonic()
    try:
        yield lambda: time.monotonic() - began_at
    finally:
        cluster.control.api.start()
        await asyncio.to_thread(cluster.control.api.wait)
        # The pauses of the cluster's own programs grow to half a minute and more; pods outlive their restart.
        for program in (
            cluster.control.controllers,
            cluster.control.scheduler,
            cluster.node.kubelet,
            cluster.addons.volumes,
            cluster.addons.simulation,
        ):
            await asyncio.to_thread(program.stop, signal.SIGKILL)
            program.start()


async def rows(site: KubeSite) -> list[LaunchRow]:
    """All launches, newest first."""
    return await asyncio.to_thread(site.launches)


async def active(site: KubeSite) -> dict[str, LaunchRow]:
    """User → her active launch."""
    return {row.user_name: row for row in await rows(site) if row.state in ACTIVE}


async def ended(site: KubeSite, launch_id: str, *, within_s: float = 60) -> LaunchRow:
    """The launch once it has ended."""

    async def look() -> LaunchRow | None:
        return next((r for r in await rows(site) if r.id == launch_id and r.state is LaunchState.ENDED), None)

    row: LaunchRow = await until(look, within_s=within_s, every_s=0.2, what=f"launch {launch_id} ends")
    return row


async def pod_uids(site: KubeSite) -> dict[str, str]:
    """User → uid of her pod."""
    return {p["metadata"]["annotations"]["daas-hub/user"]: p["metadata"]["uid"] for p in await site.pods()}


async def start(site: KubeSite, *people: str) -> None:
    """Servers of these people, at the same time."""
    for status, answer in await asyncio.gather(*(site.hub.start_server(name) for name in people)):
        assert status in (201, 202), answer


async def ready(site: KubeSite, name: str) -> bool:
    """Whether the hub sends people to her server."""
    model: dict[str, Any] | None = await site.hub.server(name)
    return bool(model and model["ready"])
