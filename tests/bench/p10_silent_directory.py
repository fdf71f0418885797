"""The directory takes connections and says nothing: what the others notice, and when people are told.

Each side on a hub of its own: ten people sign in while somebody else asks for a page twenty times a second; the peer
is watched for 20 s. Then ours with a second server that answers, and with all servers held.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.bench.ldap_rig import PEOPLE, form, p99, rig
from tests.servers.fault_proxy import Fault
from tests.servers.hub import HubServer

GOAL = "P10"
LOGINS = 10
WATCH_S, LONG_WATCH_S = 20.0, 120.0


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """One part; with ``long`` the peer is watched for 120 s."""
    return [lambda: asyncio.run(_measure(LONG_WATCH_S if long else WATCH_S))]


async def _others(hub: HubServer, until: asyncio.Future[Any], within_s: float) -> list[float]:
    """Seconds of each page of somebody else; one that never came counts as long as it was waited for."""
    times: list[float] = []
    timeout = aiohttp.ClientTimeout(total=within_s)
    began = time.perf_counter()
    async with aiohttp.ClientSession(trust_env=False, timeout=timeout) as http:
        while not until.done() and time.perf_counter() - began < within_s:
            asked = time.perf_counter()
            try:
                async with http.get(f"{hub.hub_url}/hub/login") as answer:
                    await answer.read()
            except (TimeoutError, aiohttp.ClientError):
                pass
            times.append(time.perf_counter() - asked)
            await asyncio.sleep(0.05)
    return times


async def _crowd(hub: HubServer, within_s: float) -> tuple[list[tuple[float, int]], list[float]]:
    """Ten logins, as far as they were answered in time, and the pages of others meanwhile."""
    people = list(PEOPLE.items())[:LOGINS]
    crowd = asyncio.gather(*(form(hub, *person) for person in people), return_exceptions=True)
    await asyncio.sleep(0.3)
    others = await _others(hub, crowd, within_s)
    if not crowd.done():
        crowd.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await crowd
        return [], others
    return [answer for answer in crowd.result() if isinstance(answer, tuple)], others


async def _measure(watch_s: float) -> list[dict[str, Any]]:
    async with rig() as site:
        async with site.hub("ours") as hub:
            site.way.fault = Fault.SILENT
            answers, others = await _crowd(hub, watch_s)
            assert len(answers) == LOGINS
            assert {status for _, status in answers} == {503}, answers
            refused = max(took for took, _ in answers)
            held = [await form(hub, "student000", "student000-secret") for _ in range(20)]
            assert {status for _, status in held} == {503}
        site.way.fault = Fault.NONE
        second = f"ldap://127.0.0.1:{site.slapd.port}"
        async with site.hub("ours", f"ldap://127.0.0.1:{site.way.port}", second) as hub:
            site.way.fault = Fault.SILENT
            one_of_two, _ = await _crowd(hub, watch_s)
            assert {status for _, status in one_of_two} == {302}, one_of_two
            then = [await form(hub, *person) for person in list(PEOPLE.items())[20:40]]
            assert {status for _, status in then} == {302}
        site.way.fault = Fault.NONE
        async with site.hub("peer") as hub:
            site.way.fault = Fault.SILENT
            told, peer_others = await _crowd(hub, watch_s)
    words = f"{LOGINS} logins at once, a directory that listens and is silent; peer 2.0.2 watched for {watch_s:g} s"
    peer_p99 = p99(peer_others) if len(peer_others) > 1 else peer_others[0]
    once = [took for took, _ in held]
    # Who is not told while it is watched counts as told at its end.
    peer_s = max(took for took, _ in told) if len(told) == LOGINS else watch_s

    def row(name: str, ours: float, peer: float, most_s: float) -> dict[str, Any]:
        return {
            "goal": GOAL, "name": name, "unit": "s", "ours": ours, "peer": peer, "ratio": peer / ours,
            "target": f"<= {most_s:g} s", "met": ours <= most_s, "conditions": words,
        }  # fmt: skip

    return [
        row(f"pages of others meanwhile, p99 of {len(others)}", p99(others), peer_p99, 0.1),
        row("slowest refusal", refused, peer_s, 5.0),
        row("refusal while the only server is held, slowest of 20", max(once), peer_s, 0.05),
        row("slowest login with one of two servers silent", max(took for took, _ in one_of_two), peer_s, 5.0),
        row("login afterwards, slowest of 20", max(took for took, _ in then), peer_s, 1.0),
    ]
