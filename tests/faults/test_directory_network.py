"""A directory that is silent, refuses, drips or resets costs a bounded time, never the loop and never a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from daas_hub.clients.directory import Directory, Verdict
from daas_hub.core.errors import DirectoryUnavailable
from tests.faults.directory_site import directory_behind, loop_gap
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.slapd import Slapd
from tests.waiting import until

pytestmark = pytest.mark.needs("slapd")


@pytest.fixture
async def proxy(slapd: Slapd) -> AsyncIterator[FaultProxy]:
    proxy = await FaultProxy(slapd.port).start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def directory(slapd: Slapd, proxy: FaultProxy) -> AsyncIterator[Directory]:
    async with directory_behind(proxy, slapd) as directory:
        yield directory


async def fails(directory: Directory) -> float:
    """Seconds until a login fails because of the directory."""
    began = time.monotonic()
    with pytest.raises(DirectoryUnavailable):
        await directory.authenticate("ada", "ada-secret")
    return time.monotonic() - began


@pytest.mark.parametrize("fault", [f for f in Fault if f is not Fault.NONE])
async def test_a_fault_ends_in_time_leaves_no_thread_and_is_over_when_it_is_over(
    directory: Directory, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.fault = fault
    async with loop_gap() as gap:
        took = await fails(directory)
        await until(lambda: not directory.waiting, within_s=5, what="no thread hangs")
    assert took < 5.5
    assert gap.longest_s < 1
    await until(lambda: not proxy.open, within_s=5, what="every connection is closed")
    assert b"ada-secret" not in proxy.received

    proxy.fault = Fault.NONE
    await until(lambda: _works(directory), within_s=5, what="signing in works again", every_s=0.1)


async def _works(directory: Directory) -> bool:
    try:
        return (await directory.authenticate("ada", "ada-secret")).verdict is Verdict.OK
    except DirectoryUnavailable:
        return False


async def test_a_directory_that_refuses_is_told_at_once_and_not_held(directory: Directory, proxy: FaultProxy) -> None:
    await proxy.stop()
    assert await fails(directory) < 1
    await proxy.start()
    assert await _works(directory)


async def test_it_falls_silent_between_two_answers(directory: Directory, proxy: FaultProxy) -> None:
    assert await _works(directory)
    asked = asyncio.ensure_future(fails(directory))
    seen = len(proxy.received)
    await until(lambda: len(proxy.received) > seen, what="the login is on its way", every_s=0.001)
    proxy.fault = Fault.SILENT
    assert await asked < 5.5


async def test_a_crowd_at_a_silent_directory_waits_once_and_then_nobody_waits(
    directory: Directory, proxy: FaultProxy
) -> None:
    proxy.fault = Fault.SILENT
    async with loop_gap() as gap:
        took = await asyncio.gather(*(fails(directory) for _ in range(96)))
        # Two threads with 32 places each: the other 32 were refused while those waited for about a second.
        refused, waited = sorted(took)[:32], sorted(took)[32:]
        assert refused[-1] < waited[0]
        assert waited[0] > 0.5
        # To wait twice would be twice the 3 s that a login may take.
        assert max(took) < 5.5
    assert gap.longest_s < 1
    # Those that waited in the queue while the two hung never reached the directory.
    assert proxy.connections == 2


async def test_while_it_is_held_down_nobody_connects(slapd: Slapd, proxy: FaultProxy) -> None:
    proxy.fault = Fault.SILENT
    async with directory_behind(proxy, slapd, hold_down_s=60) as directory:
        await fails(directory)
        connections = proxy.connections
        assert await fails(directory) < 0.9
        assert proxy.connections == connections


async def test_who_goes_away_leaves_no_thread_behind_with_a_server_that_drips(
    directory: Directory, proxy: FaultProxy
) -> None:
    proxy.fault = Fault.DRIP
    asked = asyncio.ensure_future(directory.authenticate("ada", "ada-secret"))
    await until(lambda: proxy.open, what="the login hangs")
    asked.cancel()
    await until(lambda: not directory.waiting and not proxy.open, within_s=6, what="its thread has ended")


async def test_connections_are_given_back_whatever_happens(directory: Directory, proxy: FaultProxy) -> None:
    for password in ("ada-secret", "wrong"):
        await directory.authenticate("ada", password)
    await directory.authenticate("nobody", "wrong")
    await directory.lookup("ada")
    # One of the service for all of them; each password has one of its own, closed by then.
    assert proxy.connections == 4
    await until(lambda: proxy.open == 1, what="only the service's is open")
    directory.close()
    await until(lambda: not proxy.open, what="every connection is closed")
