"""What a cluster has free, as far as the hub may see it.

Nodes are watched. What is used on them is the sum of what pods ask for: of all namespaces where the hub may list them,
else of its own, which is said. Pods are listed at most every ``LOOK_EVERY_S``, and only when somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from daas_hub.clients.kube import JSON, Kube, KubeRefused, path
from daas_hub.clients.kube_watch import KubeWatch
from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.node_room import NodeAmounts, Used, rooms, total_of
from daas_hub.core.room import Need, nodes_for, tolerated_keys

LOOK_EVERY_S = 20.0
LOOK_WITHIN_S = 2.0
"""How long a question waits for a new look; after that it is answered from the last one, with its age."""
RIGHTS_EVERY_S = 600.0
"""How often a right that the hub does not have is tried again."""
PAGE = 50
"""Of whole pods, some 13 KB each: a page is decoded in one go."""
PAGE_WITHIN_S = 10.0
_LIVE = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class Site:
    """What the site's settings say of nodes."""

    gpu_resource: str
    grows: bool
    selector: Mapping[str, str]
    tolerated: frozenset[str]


def site_of(config: Config, *, gpu_resource: str, grows: bool) -> Site:
    """From ``c.KubeSpawner``; profiles may say otherwise."""

    def given(name: str, empty: object) -> Any:
        value = config.get("KubeSpawner", {}).get(name, empty)
        return value.get_value(empty) if isinstance(value, LazyConfigValue) else value

    selector = given("node_selector", {})
    return Site(
        gpu_resource,
        grows,
        selector=dict(selector) if isinstance(selector, Mapping) else {},
        tolerated=tolerated_keys(given("tolerations", [])),
    )


class ClusterLook:
    """The last look at a cluster's pods and nodes."""

    def __init__(self, kube: Kube, nodes: KubeWatch[NodeAmounts], namespace: str, log: Any) -> None:
        self._kube, self._nodes, self._namespace, self._log = kube, nodes, namespace, log
        self._used: Used | None = None
        self._only_ours = False
        self._seen_at: float | None = None
        self._refused_at: float | None = None
        self._looking: asyncio.Task[None] | None = None

    async def capacity(self, backend: str, site: Site, *, fresh_s: float) -> Capacity | None:
        """What is free; None where nodes cannot be read, or not just now."""
        self._nodes.start()
        # Where the hub may not read nodes nobody waits for them twice.
        within_s = LOOK_WITHIN_S if self._nodes.failures == 0 else 0.0
        await asyncio.gather(self._look_again(), self._nodes.synced(within_s))
        if not self._nodes.fresh(fresh_s) or self._nodes.age_s is None:
            return None
        nodes: Mapping[str, NodeAmounts] = self._nodes.objects
        # A watch that is open is true now; what pods ask for is as old as its list.
        age_s = 0.0 if self._seen_at is None else time.monotonic() - self._seen_at
        seen = Capacity(
            backend=backend,
            as_of=datetime.now(UTC) - timedelta(seconds=age_s),
            nodes=rooms(nodes, self._used, site.gpu_resource),
            selector=site.selector,
            tolerated=site.tolerated,
            grows=site.grows or not all(node.open for node in nodes.values()),
            pending=self._used.pending if self._used is not None else None,
            note="pods of other namespaces are not counted" if self._only_ours else "",
        )
        mine = nodes_for(seen, Need())
        cores, memory_bytes, gpus = total_of(mine)
        idle = self._idle([each.name for each in mine])
        return replace(seen, free_cores=cores, free_memory_bytes=memory_bytes, free_gpus=gpus, idle_nodes=idle)

    def _idle(self, names: list[str]) -> int | None:
        if self._used is None or self._only_ours:
            return None
        return sum(1 for name in names if not self._used.by_node.get(name))

    async def _look_again(self) -> None:
        """List pods anew where the last list is old; whoever else asks meanwhile waits for the same one."""
        if self._looking is None or self._looking.done():
            if self._seen_at is not None and time.monotonic() - self._seen_at < LOOK_EVERY_S:
                return
            self._looking = asyncio.create_task(self._look())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._looking), LOOK_WITHIN_S)

    async def _look(self) -> None:
        try:
            await self._list()
        except (KubeRefused, BackendUnavailable) as error:
            self._log.warning("What pods ask for is not known: %s", error)

    async def _list(self) -> None:
        began, ours = time.monotonic(), False
        if self._refused_at is None or began - self._refused_at > RIGHTS_EVERY_S:
            try:
                used = await self._sum(path("pods"))
            except KubeRefused as error:
                if error.code != 403:
                    raise
                # Not the server's words: who looks for a right that is missing must not find one that is only wished.
                self._log.info("Of what nodes have free, only pods of %s count: no right to list all", self._namespace)
                self._refused_at, ours = began, True
        else:
            ours = True
        if ours:
            used = await self._sum(path("pods", self._namespace))
        self._used, self._only_ours, self._seen_at = used, ours, began

    async def _sum(self, where: str) -> Used:
        used = Used()
        query: dict[str, str | int] = {"limit": PAGE, "fieldSelector": _LIVE}
        while True:
            answer, _ = await self._kube.page(where, query, accept=JSON, within_s=PAGE_WITHIN_S)
            for pod in answer.get("items") or []:
                used.add(pod)
            follow = (answer.get("metadata") or {}).get("continue")
            if not follow:
                return used
            query["continue"] = follow

    async def close(self) -> None:
        """End a look that goes on."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
