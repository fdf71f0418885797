"""The hub is restarted twenty times, three ways, at every moment of a server's life: ledger and machine agree after."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.core.models import ACTIVE, LaunchState
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(600)]

WAYS = ("SIGTERM", "SIGKILL", "unit")
MOMENTS = ("start", "running", "stopping")
ROUNDS = 20
SERVICES = ("daas_hub.services.console", "daas_hub.services.culler", "daas_hub.services.reconciler")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site whose servers are small, so that many rounds fit; the reconciler looks every 2 s instead of 60."""
    made = Site(
        proxy=False,
        cmd=list(program(reachable_python())),
        more="c.Reconciler.every_s = 2\nc.Reconciler.lost_start_grace_s = 3\nc.Reconciler.reap_grace_s = 3",
    )
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


def hub_side(site: Site) -> list[int]:
    """The hub's services: what a systemd unit would hold besides the hub itself."""
    marked = str(site.state / "ledger.sqlite").encode()
    return [p for p in pids() if any(s.encode() in cmdline(p) for s in SERVICES) and marked in environ(p)]


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


async def end_hub(site: Site, way: str) -> None:
    """SIGTERM; SIGKILL; or all of the unit's processes at once, as systemd's KillMode=control-group does."""
    if way == "unit":
        for pid in hub_side(site):
            os.kill(pid, signal.SIGTERM)
    site.hub.signal(signal.SIGKILL if way == "SIGKILL" else signal.SIGTERM)
    await site.hub.wait_gone()


async def agree(site: Site) -> None:
    """Every server has one active row, every active row one server."""

    def settled() -> bool:
        rows = [r for r in site.launches() if r.state in ACTIVE]
        running = [r for r in rows if r.state is LaunchState.RUNNING and r.handle is not None]
        recorded = sorted(r.handle["pid"] for r in running if r.handle is not None)
        return len(rows) == len(running) and recorded == site.servers()

    def told() -> str:
        rows = [(r.state.value, r.target.value, r.handle and r.handle["pid"]) for r in site.launches()[:3]]
        return f"rows {rows}, servers {site.servers()}"

    try:
        await until(settled, within_s=40, every_s=0.2)
    except AssertionError as error:
        raise AssertionError(f"ledger and machine do not agree: {told()}\n{site.hub.log_text()[-6000:]}") from error


async def test_twenty_restarts(site: Site) -> None:
    dice = random.Random(20)
    for number in range(ROUNDS):
        way, moment = WAYS[number % len(WAYS)], MOMENTS[(number // len(WAYS)) % len(MOMENTS)]
        before = site.servers("ada")
        calls: list[asyncio.Task[object]] = []
        if moment == "start" and not before:
            calls.append(asyncio.create_task(quietly(site.hub.api("POST", "users/ada/server"))))
            await asyncio.sleep(dice.uniform(0.0, 0.6))
        elif moment == "stopping" and before:
            calls.append(asyncio.create_task(quietly(site.hub.api("DELETE", "users/ada/server"))))
            await asyncio.sleep(dice.uniform(0.0, 0.3))
        elif not before:
            assert (await site.hub.start_server("ada"))[0] in (201, 202)
            before = site.servers("ada")
        await end_hub(site, way)
        await asyncio.gather(*calls)
        await site.hub.start()
        await agree(site)
        if moment == "running":
            assert site.servers("ada") == before, f"round {number}: {way} lost the server"
            assert await until(lambda: ready(site), within_s=40, every_s=0.2, what="the hub knows it again")
        if moment == "stopping" and site.servers("ada"):
            # The request may have been too late for the hub; then the server simply goes on.
            assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204, 400, 404)
            await agree(site)
    ledger = site.ledger()
    try:
        assert ledger.recount() == []
    finally:
        ledger.close()


async def ready(site: Site) -> bool:
    model = await site.hub.server("ada")
    return bool(model and model["ready"])


async def quietly(call: object) -> object:
    """A call during which the hub dies."""
    try:
        return await call  # type: ignore[misc]
    except OSError as error:
        return error


async def test_after_a_kill_there_is_one_of_each_service_within_30_s(site: Site) -> None:
    await end_hub(site, "SIGKILL")
    began = time.monotonic()
    await site.hub.start()

    def one_of_each() -> bool:
        running = [cmdline(p) for p in hub_side(site)]
        return sorted(sum(s.encode() in line for line in running) for s in SERVICES) == [1, 1, 1]

    await until(one_of_each, within_s=max(1, 30 - (time.monotonic() - began)), every_s=0.2, what="one of each service")


async def test_no_secret_is_where_others_can_read_it(site: Site) -> None:
    """After all of this: no token in a log, an argv, or a file that another uid can read."""
    await site.stop_servers()
    await agree(site)
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (pid,) = site.servers("ada")
    token = next(
        v for k, _, v in (e.partition(b"=") for e in environ(pid).split(b"\0")) if k == b"JUPYTERHUB_API_TOKEN"
    )
    secrets = {token, site.hub.token.encode(), site.hub.crypt_key.encode(), b"ada-secret", b"service-secret"}
    for secret in secrets:
        assert secret not in site.hub.log.read_bytes()
        assert not [p for p in pids() if secret in cmdline(p)]
    for path in site.root.rglob("*"):
        if path.is_file() and path.stat().st_mode & 0o077 and reachable_by_others(path, site.root):
            assert not any(secret in path.read_bytes() for secret in secrets), path
    await site.hub.api("DELETE", "users/ada/server")


def reachable_by_others(path: Path, top: Path) -> bool:
    """Whether every folder on the way lets another uid through."""
    return all(p.stat().st_mode & 0o001 for p in path.parents if p == top or top in p.parents)
