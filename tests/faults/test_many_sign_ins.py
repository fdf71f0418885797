"""Many people sign in at the same moment, or try passwords: nobody is told that a healthy directory is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daas_hub.auth.common import try_again
from daas_hub.clients.directory import Verdict
from daas_hub.core.errors import DirectoryBusy
from tests.faults.aftermath import faulty_site
from tests.faults.directory_site import directory_behind
from tests.flow.site import Site
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.slapd import BASE, Slapd
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]

CROWD = 100
STRANGERS = 60
REAL = 10


async def enrol(site: Site, count: int) -> list[str]:
    """So many more people of the lab in the directory; their names."""
    names = [f"p{number:03}" for number in range(count)]
    entries = [
        f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\n"
        f"cn: {name}\nsn: Test\nuidNumber: {21000 + number}\ngidNumber: 30001\nhomeDirectory: {site.homes}/{name}\n"
        f"userPassword: {name}-secret"
        for number, name in enumerate(names)
    ]
    await site.slapd.add("\n\n".join(entries) + "\n")
    return names


def many_threads() -> None:
    """A thread for each visitor: those of the loop itself are few, and the crowd would come one by one."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CROWD + 2 * STRANGERS))


async def test_a_hundred_people_sign_in_at_once() -> None:
    many_threads()
    async with faulty_site("ada") as site:
        names = await enrol(site, CROWD)
        answers = await asyncio.gather(*(site.login_answer(name, f"{name}-secret") for name in names))
        assert Counter(status for status, _ in answers) == {200: CROWD}
        # JupyterHub answers as many requests in one turn of its loop as have come: that gap is not the directory's.
        site.hub.forget_gaps()


async def test_strangers_keep_nobody_from_signing_in_nor_from_starting() -> None:
    many_threads()
    # They are not stopped for their number here: their attempts are to reach the queue.
    unlimited = "c.DaasLDAPAuthenticator.attempts_per_name = c.DaasLDAPAuthenticator.attempts_per_address = 0"
    async with faulty_site("ada", more=unlimited) as site:
        names = await enrol(site, REAL)
        over, tried = asyncio.Event(), Counter[int]()

        async def stranger(number: int) -> None:
            while not over.is_set():
                status, _ = await site.login_answer(f"nobody-{number}", "wrong")
                tried[status] += 1

        strangers = [asyncio.create_task(stranger(number)) for number in range(STRANGERS)]
        try:
            await until(lambda: tried.total() >= STRANGERS, within_s=60, what="the strangers are at work")
            # Until here they came all at once, and the hub rendered their pages in one turn of its loop.
            site.hub.forget_gaps()
            start = asyncio.create_task(site.hub.start_server("ada"))
            answers = await asyncio.gather(*(site.login_answer(name, f"{name}-secret") for name in names))
            assert (await start)[0] in (201, 202)
        finally:
            over.set()
            await asyncio.gather(*strangers)
        assert Counter(status for status, _ in answers) == {200: REAL}
        # Each of them was judged, too.
        assert set(tried) == {403}


async def test_a_full_queue_says_so_and_starts_have_their_own(tmp_path: Path) -> None:
    """The directory hangs, so that whoever came first holds every thread and the others wait."""
    slapd = await Slapd(tmp_path, Path("/home")).start()
    proxy = await FaultProxy(slapd.port).start()
    try:
        async with directory_behind(proxy, slapd, threads=1, wait_within_s=0.5, hold_down_s=0.0) as directory:
            found = await directory.lookup("ada")
            assert found is not None
            proxy.fault = Fault.SILENT
            first = asyncio.create_task(directory.authenticate("ada", "ada-secret"))
            await until(lambda: proxy.open, what="the first one has the thread")
            waits = [asyncio.create_task(directory.authenticate("ada", "ada-secret")) for _ in range(31)]
            await until(lambda: directory.waiting == 32, what="every place is taken")
            with pytest.raises(DirectoryBusy) as refused:
                await directory.authenticate("ada", "ada-secret")
            assert refused.value.reason == "directory_busy"
            assert refused.value.message.startswith("Many people sign in just now.")
            page = try_again(refused.value)
            assert (page.status_code, vars(page)["headers"]) == (503, {"Retry-After": "5"})
            # A start is asked meanwhile: the sign-ins hold no thread of it.
            proxy.fault = Fault.NONE
            assert (await directory.lookup_subject(found[0].subject)) == (found[0], Verdict.OK)
            assert not first.done()
            # Whose turn does not come in time is told the same, and gives its place back.
            ended = await asyncio.gather(*waits, return_exceptions=True)
            assert {type(error) for error in ended} == {DirectoryBusy}
            assert directory.waiting == 1
            await asyncio.gather(first, return_exceptions=True)
    finally:
        await proxy.stop()
        await slapd.stop()
