"""One process is the hub of a ledger: a copied configuration with other ports would adopt and stop its servers.

A row of the ledger says which process it is. On the same machine that process is looked for, so a hub that was killed
is followed at once. One that is elsewhere (another machine, another container) says every few seconds that it lives.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import platform
import time
from dataclasses import asdict

from daas_hub.clients import processes
from daas_hub.core.errors import ConfigError, DaasError
from daas_hub.spawners.runtime import DaasHub, utcnow

LEASE_S = 15.0
"""How long a hub elsewhere is held for alive after it last said so, in seconds; it does every third of this."""
LOOK_EVERY_S = 0.5


def require(site: DaasHub) -> None:
    """Take the hub's place in the ledger and keep it. Raises ConfigError where another process has it. Blocks.

    Waits at most ``LEASE_S`` for a hub elsewhere of which it cannot be told whether it lives.
    """
    name, me = f"hub:{site.hub_id}", _myself()
    first = None
    while True:
        known = site.ledger.leases.held(name)
        holder, until_at = known if known is not None else ("", utcnow())
        lives = _lives(holder) if holder and holder != me else False
        gone = holder if lives is False else ""
        if lives is not True and site.ledger.leases.acquire(name, me, LEASE_S, utcnow(), gone=gone):
            break
        first = first or (holder, until_at)
        if lives is True or (holder, until_at) != first:
            raise ConfigError(_refusal(site, holder))
        time.sleep(LOOK_EVERY_S)
    atexit.register(_give_back, site, name, me)
    site.keep(_stay(site, name, me))


def _myself() -> str:
    """This process, for ever."""
    mine = processes.identify(os.getpid())
    if mine is None:
        raise ConfigError("This machine does not show the hub its own process in /proc; mount it.")
    return json.dumps({**asdict(mine), "pids": _pid_namespace(), "host": platform.node()}, sort_keys=True)


def _pid_namespace() -> str:
    """In which container its pid counts."""
    return os.readlink("/proc/self/ns/pid")


def _lives(holder: str) -> bool | None:
    """Whether that process runs; None: it is not one that can be looked for here."""
    known = json.loads(holder)
    if (known["boot_id"], known["pids"]) != (processes.boot_id(), _pid_namespace()):
        return None
    return processes.alive(processes.ProcessId(known["boot_id"], known["pid"], known["start_time"]))


def _refusal(site: DaasHub, holder: str) -> str:
    known = json.loads(holder)
    return (
        f"The hub {site.hub_id!r} runs already with this ledger, as process {known['pid']} on {known['host']}. Stop "
        "that one first; or, where this is meant to be another hub, give it a DaasHub.hub_id and a DaasHub.ledger_url "
        "of its own. Two hubs on one ledger would take over and stop each other's servers."
    )


async def _stay(site: DaasHub, name: str, me: str) -> None:
    """Say that this hub lives, as long as it does."""
    while True:
        await asyncio.sleep(LEASE_S / 3)
        try:
            if not await site.run(site.ledger.leases.acquire, name, me, LEASE_S, utcnow()):
                site.log.critical("Another process has become the hub %r of this ledger: stop one of them", site.hub_id)
        except DaasError as error:
            site.log.warning("That this hub lives could not be written down just now: %s", error.log_message)


def _give_back(site: DaasHub, name: str, me: str) -> None:
    try:
        site.ledger.leases.release(name, me)
    except DaasError as error:
        site.log.warning("The hub's place in the ledger was not given back: %s", error.log_message)
