"""What every fault must leave behind on a real hub: resources = ledger, no secret in sight, a loop that never stood.

``faulty_site`` is a site whose hub is watched; when its block is over, ``check_aftermath`` looks. Each of the three
parts gives a list of what is wrong, so that a test can plant a fault and see it found (``test_aftermath.py``). For a
site with pods the machine is the cluster (``kube_aftermath.py``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from daas_hub.core.models import ACTIVE, LaunchState
from tests.faults import kube_aftermath
from tests.faults.leaks import TOKEN_BOOK, leaks, watch
from tests.flow.kube_site import KubeSite
from tests.flow.site import Site
from tests.servers.hub import LOOP_MONITOR
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

LONGEST_GAP_S = 1.0
QUICK = "c.Reconciler.every_s = 2\nc.Reconciler.lost_start_grace_s = 3\nc.Reconciler.reap_grace_s = 3\n"
"""The reconciler looks every 2 s instead of every 60, so that a test need not wait for it."""


WATCHED = LOOP_MONITOR + TOKEN_BOOK + QUICK


def watched_kube_site(cluster: Cluster, namespace: str, image: str, *, more: str = "", **options: Any) -> KubeSite:
    """The same with pods of a cluster."""
    site = KubeSite(cluster, namespace, image, more=WATCHED + more, proxy=False, **options)
    watch(site)
    return site


def watched_site(*, more: str = "", cmd: list[str] | None = None, **options: Any) -> Site:
    """A site whose loop is measured and whose tokens are known; tiny servers and no proxy unless said otherwise."""
    options.setdefault("proxy", False)
    site = Site(cmd=cmd or list(program(reachable_python())), more=WATCHED + more, **options)
    watch(site)
    return site


@asynccontextmanager
async def faulty_site(*people: str, site: Site | None = None, **options: Any) -> AsyncIterator[Site]:
    """A running site with these people signed in; the fault is made in the block, and then its aftermath is checked."""
    made = site or watched_site(**options)
    async with made.standing(*people):
        yield made
        await check_aftermath(made, person=people[0] if people else "ada")


async def check_aftermath(site: Site, *, person: str | None = "ada", within_s: float = 60) -> None:
    """Fail unless, with no other help than time, everything is as it must be, and ``person`` can sign in and start.

    ``person`` None: for sites whose servers cannot start.
    """
    if site.hub.process is None or site.hub.process.poll() is not None:
        await site.hub.start()
    await agreed(site, within_s=within_s)
    if person is not None and not await asyncio.to_thread(_servers, site):
        # There must be a server, or else there is nothing to count and no token to find.
        await until(lambda: _signs_in(site, person), within_s=within_s, every_s=0.2, what=f"{person} signs in again")
        await until(lambda: _starts(site, person), within_s=within_s, every_s=0.2, what=f"{person} starts a server")
        await agreed(site, within_s=within_s)
    # A loop that stands now has written down no gap yet: when it answers, it has.
    status, _ = await site.hub.http("GET", f"{site.hub.hub_url}/hub/health")
    assert status == 200
    gap_s = site.hub.worst_gap_s()
    assert gap_s <= LONGEST_GAP_S, f"the hub's loop stood still for {gap_s} s"
    found = await asyncio.to_thread(leaks, site)
    if isinstance(site, KubeSite):
        found += await asyncio.to_thread(kube_aftermath.leaks, site)
    assert not found, f"secrets are where they must not be: {found}"


async def _signs_in(site: Site, person: str) -> bool:
    status, _ = await site.login_answer(person, site.person(person).password)
    return status == 200


async def _starts(site: Site, person: str) -> bool:
    status, _ = await site.hub.api("POST", f"users/{person}/server")
    # 400: pending from a moment ago; it is running then.
    return status in (201, 202) or bool(await asyncio.to_thread(_servers, site, person))


def _servers(site: Site, person: str | None = None) -> list[Any]:
    """What runs there, of one person or of all. Blocks."""
    return kube_aftermath.servers(site, person) if isinstance(site, KubeSite) else site.servers(person)


async def agreed(site: Site, *, within_s: float = 40) -> None:
    """Wait until ledger and machine agree; fails with what they do not agree about and the hub's last words."""
    told: list[str] = ["not looked yet"]

    async def look() -> bool:
        told[:] = await asyncio.to_thread(differences, site)
        return not told

    try:
        await until(look, within_s=within_s, every_s=0.2)
    except AssertionError as error:
        raise AssertionError(f"ledger and machine do not agree: {told}\n{site.hub.log_text()[-6000:]}") from error


def differences(site: Site) -> list[str]:
    """What ledger and machine do not agree about. Blocks."""
    ledger = site.ledger()
    try:
        every, miscounted = ledger.launches(limit=1_000_000), ledger.recount()
    finally:
        ledger.close()
    rows = [r for r in every if r.state in ACTIVE]
    sums = [f"a sum is wrong: {difference}" for difference in miscounted]
    if isinstance(site, KubeSite):
        return kube_aftermath.differences(site, rows) + sums
    running = {r.handle["pid"]: r for r in rows if r.handle is not None and r.state is LaunchState.RUNNING}
    servers = set(site.servers())
    return [
        *(f"{r.user_name}'s launch is {r.state.value}" for r in rows if r not in running.values()),
        *(f"{r.user_name}'s launch is running, but its process {pid} is not" for pid, r in running.items()
          if pid not in servers),
        *(f"process {pid} is a server, but no running launch" for pid in servers - running.keys()),
        *(f"{path} is left" for path in _left(site, {r.id for r in rows})),
        *sums,
    ]  # fmt: skip


def _left(site: Site, active: set[str]) -> list[Path]:
    """Folders and cgroups of launches that are not active."""
    tops = [str(site.run / site.hub_id)]
    # os.walk: other people's groups come and go meanwhile.
    tops += [f for f, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(f) == f"daas-{site.hub_id}"]
    inside = [Path(e) for top in tops if os.path.isdir(top) for e in os.scandir(top) if e.is_dir()]
    return [path for path in inside if path.name not in active and not path.name.startswith(".")]
