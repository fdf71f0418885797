"""Questions of starts share bound connections, and never an answer: each is looked at before, and kept for seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daas_hub.clients import directory_pool
from daas_hub.clients.directory import Directory
from daas_hub.core.errors import DirectoryUnavailable
from tests.faults.directory_site import directory_behind
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.slapd import BASE, Slapd
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


async def subject(directory: Directory, name: str = "ada") -> str:
    found = await directory.lookup(name)
    assert found is not None
    return found[0].subject


async def test_one_connection_serves_many_questions_and_each_is_answered_anew(
    slapd: Slapd, directory: Directory, proxy: FaultProxy
) -> None:
    hers = await subject(directory)
    for home in ("/home/one", "/home/two", "/home/three"):
        await slapd.modify(
            f"dn: uid=ada,ou=people,{BASE}\nchangetype: modify\nreplace: homeDirectory\nhomeDirectory: {home}\n"
        )
        found = await directory.lookup_subject(hers, alone=True)
        assert found is not None
        assert found[0].attributes["home"] == home
        await directory.require_alone(found[0])
    assert proxy.connections == 1


async def test_never_more_connections_than_threads_and_all_are_closed_at_the_end(
    directory: Directory, proxy: FaultProxy
) -> None:
    hers = await subject(directory)
    before = proxy.connections
    await asyncio.gather(*(directory.lookup_subject(hers) for _ in range(20)))
    assert proxy.connections - before <= directory.settings.threads
    directory.close()
    await until(lambda: not proxy.open, what="every connection is closed")


async def test_a_kept_connection_that_the_server_closed_costs_nobody_an_error(
    slapd: Slapd, directory: Directory, proxy: FaultProxy
) -> None:
    hers = await subject(directory)
    await directory.lookup_subject(hers)
    before = proxy.connections
    await slapd.stop()
    await until(lambda: not proxy.open, what="the server has closed it")
    await slapd.run()
    assert await directory.lookup_subject(hers) is not None
    assert proxy.connections > before


async def test_a_kept_connection_that_is_cut_under_a_question_is_replaced(
    directory: Directory, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers = await subject(directory)
    await directory.lookup_subject(hers)
    # As if the server had ended it between the look and the question.
    monkeypatch.setattr(directory_pool.Session, "quiet", True)
    await proxy.stop()
    await proxy.start()
    before = proxy.connections
    assert await directory.lookup_subject(hers) is not None
    assert proxy.connections == before + 1


async def test_what_is_not_used_is_closed_and_what_is_old_is_not_lent(
    directory: Directory, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_pool, "IDLE_S", 0.3)
    hers = await subject(directory)
    await directory.lookup_subject(hers)
    await until(lambda: not proxy.open, what="the unused connection is closed")
    monkeypatch.setattr(directory_pool, "LIFE_S", 0)
    before = proxy.connections
    for _ in range(2):
        await directory.lookup_subject(hers)
    assert proxy.connections == before + 2


async def test_a_directory_that_hangs_is_told_and_its_connection_is_not_kept(
    directory: Directory, proxy: FaultProxy
) -> None:
    hers = await subject(directory)
    await directory.lookup_subject(hers)
    proxy.fault = Fault.SILENT
    with pytest.raises(DirectoryUnavailable):
        await directory.lookup_subject(hers)
    await until(lambda: not proxy.open, within_s=6, what="every connection is closed")
    proxy.fault = Fault.NONE

    async def again() -> bool:
        try:
            return await directory.lookup_subject(hers) is not None
        except DirectoryUnavailable:
            return False

    await until(again, within_s=10, what="it is asked again")
