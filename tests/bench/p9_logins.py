"""A lecture begins: 100 people sign in at once over LDAP, against jupyterhub-ldapauthenticator 2.0.2.

The directory is a real slapd behind a way of 0, 2 and 10 ms; both sides look people up with the service account, bind
as the person and ask for her groups, with StartTLS. Alone in a process, and end to end through a hub.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from tests.bench.ldap_rig import PEOPLE, Rig, form, p99, rig

GOAL = "P9"
ROUNDS, LONG_ROUNDS = 3, 5
RTTS_MS = (0, 2, 10)
SIDES = ("ours", "peer")
TIMES = {0: 10.0, 2: 10.0, 10: 20.0}


def parts(long: bool = False) -> list[Callable[[], list[dict[str, Any]]]]:
    """Three rounds in turns, five with ``long``."""
    rounds = LONG_ROUNDS if long else ROUNDS
    alone = [lambda rtt=rtt: asyncio.run(_alone(rtt, rounds)) for rtt in RTTS_MS]
    return [*alone, partial(lambda: asyncio.run(_hub(2, rounds)))]


def _row(name: str, unit: str, ours: float, peer: float, target: str, met: bool, conditions: str) -> dict[str, Any]:
    return {
        "goal": GOAL,
        "name": name,
        "unit": unit,
        "ours": ours,
        "peer": peer,
        "ratio": peer / max(ours, 1e-9),
        "target": target,
        "met": met,
        "conditions": conditions,
    }


async def _alone(rtt_ms: int, rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    async with rig() as site, site.alone("ours") as ours, site.alone("peer") as peer:
        site.way.rtt_s = rtt_ms / 1000
        for _ in range(rounds):
            for side, child in zip(SIDES, (ours, peer), strict=True):
                found[side].append(await _turn(site, child))
    of = {side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in found.items()}
    ours_, peer_ = of["ours"], of["peer"]
    words = (
        f"{len(PEOPLE)} logins at once, RTT {rtt_ms} ms, StartTLS, medians of {rounds} in turns; "
        f"ours {DaasLDAPAuthenticator.threads.default_value} threads, "
        f"certificate checked, five groups read; peer 2.0.2 with lookup_dn, one allowed group, "
        f"certificate not checked; "
        f"p50 {ours_['p50']:.2f} against {peer_['p50']:.2f} s; all are let in"
    )
    ratio = peer_["p99"] / ours_["p99"]
    name = f"RTT {rtt_ms} ms"
    return [
        _row(f"login p99 in the authenticator, {name}", "s", ours_["p99"], peer_["p99"], f">= {TIMES[rtt_ms]:g} x",
             ratio >= TIMES[rtt_ms], words),
        _row(f"longest stall of the loop, {name}", "s", ours_["gap"], peer_["gap"], "<= 0.05 s",
             ours_["gap"] <= 0.05, words),
        _row(f"bytes from the directory per login, {name}", "B", ours_["bytes"], peer_["bytes"], "<= 4096 B",
             ours_["bytes"] <= 4096, words),
    ]  # fmt: skip


async def _turn(site: Rig, child: asyncio.subprocess.Process) -> dict[str, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    said = site.way.said
    child.stdin.write(b"\n")
    answer = json.loads(await child.stdout.readline())
    times = answer["times"]
    return {
        "p50": statistics.median(times),
        "p99": p99(times),
        "gap": answer["gap_s"],
        "bytes": (site.way.said - said) / len(times),
    }


async def _hub(rtt_ms: int, rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    async with rig() as site:
        site.way.rtt_s = rtt_ms / 1000
        for _ in range(rounds):
            for side in SIDES:
                # A hub of its own for each turn: these are first logins.
                async with site.hub(side) as hub:
                    answers = await asyncio.gather(*(form(hub, *person) for person in PEOPLE.items()))
                    assert {status for _, status in answers} == {302}, answers[:3]
                    found[side].append(p99([took for took, _ in answers]))
    ours, peer = (statistics.median(found[side]) for side in SIDES)
    words = f"{len(PEOPLE)} first logins at once, RTT {rtt_ms} ms, medians of {rounds} in turns; all are let in"
    return [_row("login p99 through a hub, RTT 2 ms", "s", ours, peer, ">= 4 x", peer / ours >= 4, words)]
