"""Two servers of one directory, either or both of which fail: people sign in as long as one of them can answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.clients.directory import Directory, Verdict
from daas_hub.core.errors import AccountRefused, DirectoryUnavailable
from daas_hub.core.failover import Tier, listed
from tests.contracts.test_directory_slapd import settings
from tests.faults.directory_site import loop_gap
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.slapd import PEOPLE, Slapd
from tests.waiting import until

pytestmark = pytest.mark.needs("slapd")
ANSWER_S, LOGIN_S = 2.0, 4.0


class Pair:
    """Two servers with the same people, each behind a proxy of its own."""

    def __init__(self, slapds: list[Slapd], ways: list[FaultProxy]) -> None:
        self.slapds, self.ways = slapds, ways

    @asynccontextmanager
    async def directory(self, *, plain: bool = False, **changes: object) -> AsyncIterator[Directory]:
        """A client of both: the first is the primary, the second the backup."""
        first, second = (f"ldap://127.0.0.1:{way.port}" for way in self.ways)
        whole = settings(self.slapds[0], first)
        address = replace(whole.address, connect_within_s=1, answer_within_s=ANSWER_S, allow_plaintext=plain)
        servers = (*listed([first], Tier.PRIMARY), *listed([second], Tier.BACKUP))
        values = {"servers": servers, "login_within_s": LOGIN_S, "hold_down_s": 60.0, "threads": 4, **changes}
        directory = Directory(replace(whole, address=address, **values))  # type: ignore[arg-type]
        try:
            yield directory
        finally:
            directory.close()

    @property
    def asked(self) -> tuple[int, int]:
        """Connections that each proxy has had."""
        return self.ways[0].connections, self.ways[1].connections


@pytest.fixture(scope="module")
def slapds(tmp_path_factory: pytest.TempPathFactory) -> list[Slapd]:
    """For all tests: nothing in them is changed."""
    pair = [Slapd(tmp_path_factory.mktemp("slapd"), Path("/home")) for _ in range(2)]

    async def both() -> None:
        # One after the other: the second one has the certificates of the first.
        for slapd in pair:
            await slapd.start()

    asyncio.run(both())
    return pair


@pytest.fixture(scope="module", autouse=True)
def _stopped(slapds: list[Slapd]) -> object:
    yield
    for slapd in slapds:
        asyncio.run(slapd.stop())


@pytest.fixture
async def pair(slapds: list[Slapd]) -> AsyncIterator[Pair]:
    ways = [await FaultProxy(slapd.port).start() for slapd in slapds]
    yield Pair(slapds, ways)
    for way in ways:
        await way.stop()


async def signs_in(directory: Directory, name: str = "ada") -> bool:
    return (await directory.authenticate(name, f"{name}-secret")).verdict is Verdict.OK


async def fails(directory: Directory) -> DirectoryUnavailable:
    with pytest.raises(DirectoryUnavailable) as error:
        await directory.authenticate("ada", "ada-secret")
    return error.value


async def make(fault: str, way: FaultProxy) -> None:
    if fault == "refuse":
        await way.stop()
    else:
        way.fault = Fault(fault)


async def mend(fault: str, way: FaultProxy) -> None:
    if fault == "refuse":
        await way.start()
    way.fault = Fault.NONE


FAULTS = ["refuse", *(fault.value for fault in Fault if fault is not Fault.NONE)]


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_of_two_fails_and_the_other_answers(pair: Pair, fault: str) -> None:
    async with pair.directory() as directory, loop_gap() as gap:
        assert await signs_in(directory)
        assert pair.asked == (2, 0)
        await make(fault, pair.ways[0])
        # The very login that meets the fault is answered by the other server.
        assert await signs_in(directory)
        assert await directory.lookup("ada")
        met = pair.asked[0]
        await asyncio.gather(*(signs_in(directory, name) for name in ("ada", "bob", "boss", "carl")))
        # While the first is held nobody meets it again.
        assert pair.asked[0] == met
        await until(lambda: not directory.waiting, what="no thread hangs")
    assert gap.longest_s < 1
    assert b"ada-secret" not in pair.ways[0].received + pair.ways[1].received


@pytest.mark.parametrize("fault", ["refuse", "silent", "drip"])
async def test_both_fail_everybody_is_told_in_time_and_it_ends_when_it_ends(pair: Pair, fault: str) -> None:
    async with pair.directory(hold_down_s=2.5) as directory, loop_gap() as gap:
        for way in pair.ways:
            await make(fault, way)
        began = time.monotonic()
        told = await asyncio.gather(*(fails(directory) for _ in range(8)))
        # One time for the login over both servers, and what stood in the queue has not begun another one.
        assert time.monotonic() - began < 2 * LOGIN_S
        assert {error.status for error in told} == {503}
        for way in pair.ways:
            await mend(fault, way)
        await until(lambda: _works(directory), within_s=8, every_s=0.1, what="signing in works again")
        await until(lambda: _primary_is_back(directory, pair), within_s=8, every_s=0.1, what="the primary is back")
    assert gap.longest_s < 1


async def _works(directory: Directory) -> bool:
    try:
        return await signs_in(directory)
    except DirectoryUnavailable:
        return False


async def _primary_is_back(directory: Directory, pair: Pair) -> bool:
    seen = pair.asked
    assert await _works(directory)
    return pair.asked[0] > seen[0] and pair.asked[1] == seen[1]


async def test_while_both_are_held_the_answer_comes_without_them(pair: Pair) -> None:
    async with pair.directory() as directory:
        for way in pair.ways:
            way.fault = Fault.SILENT
        first = await fails(directory)
        assert "a moment ago" not in first.log_message
        seen = pair.asked
        for _ in range(50):
            assert "a moment ago" in (await fails(directory)).log_message
        with pytest.raises(DirectoryUnavailable):
            await directory.lookup("ada")
        assert pair.asked == seen


async def test_one_question_tries_a_server_that_was_held_the_others_do_not_wait(pair: Pair) -> None:
    pair.ways[0].fault = Fault.SILENT
    async with pair.directory(hold_down_s=0.3) as directory:
        assert await signs_in(directory)
        failed, met = time.monotonic(), pair.asked[0]
        await until(lambda: time.monotonic() > failed + 0.3, what="the hold has ended")
        crowd = [asyncio.create_task(signs_in(directory)) for _ in range(4)]
        done, waiting = await asyncio.wait(crowd, timeout=0.9, return_when=asyncio.ALL_COMPLETED)
        assert (len(done), len(waiting)) == (3, 1)
        assert all(await asyncio.gather(*crowd))
        assert pair.asked[0] == met + 1


async def test_the_real_server_is_killed_and_comes_back(pair: Pair) -> None:
    async with pair.directory(hold_down_s=0.3) as directory:
        assert await signs_in(directory)
        await pair.slapds[0].stop()
        try:
            assert await signs_in(directory)
            assert pair.asked[1] == 2
        finally:
            await pair.slapds[0].run()
        await until(lambda: _primary_is_back(directory, pair), within_s=8, every_s=0.1, what="the primary is back")


async def test_a_wrong_password_is_tried_once(pair: Pair) -> None:
    admitted: list[str] = []
    async with pair.directory() as directory:
        outcome = await directory.authenticate("ada", "wrong", admitted.append)
        assert outcome.verdict is Verdict.WRONG
        assert pair.asked == (2, 0)
        assert len(admitted) == 1


def binds_as_ada(slapd: Slapd) -> int:
    return slapd.log.read_text().count(f'BIND dn="{PEOPLE["ada"].dn}" method=128')


async def test_a_password_that_was_sent_and_not_answered_is_sent_nowhere_else(pair: Pair) -> None:
    """The server may have judged it: a wrong one would count twice."""
    way, binds = pair.ways[0], binds_as_ada(pair.slapds[0])
    way.fault, way.lose_after = Fault.LOSE, PEOPLE["ada"].dn.encode()
    admitted: list[str] = []
    # Without TLS, so that the proxy can tell her bind from others.
    async with pair.directory(plain=True) as directory:
        with pytest.raises(DirectoryUnavailable) as error:
            await directory.authenticate("ada", "wrong", admitted.append)
        assert error.value.reason == "directory_unanswered"
        assert pair.asked[1] == 0
        # The server did judge it, once. The next attempt goes to the other one.
        assert binds_as_ada(pair.slapds[0]) == binds + 1
        assert await signs_in(directory)
        assert pair.asked[1] == 2
    assert len(admitted) == 1


async def test_an_attempt_counts_once_where_the_second_server_goes_on(pair: Pair) -> None:
    admitted: list[str] = []
    async with pair.directory() as directory:

        def cut_off(who: str) -> None:
            # Before her password is sent: the connection for it meets nobody.
            admitted.append(who)
            pair.ways[0].fault = Fault.RESET

        outcome = await directory.authenticate("ada", "ada-secret", cut_off)
        assert outcome.verdict is Verdict.OK
        assert pair.asked == (2, 2)
    assert len(admitted) == 1


async def test_who_is_refused_by_us_says_nothing_against_the_server(pair: Pair) -> None:
    def refused(_who: str) -> None:
        raise AccountRefused("too many")

    async with pair.directory() as directory:
        with pytest.raises(AccountRefused):
            await directory.authenticate("ada", "ada-secret", refused)
        assert await signs_in(directory)
        assert pair.asked == (2, 0)


async def test_what_the_directory_itself_says_is_not_asked_elsewhere(pair: Pair) -> None:
    async with pair.directory(user_filter="(|(uid={name})(cn=*))", name_attribute="sn") as directory:
        with pytest.raises(DirectoryUnavailable) as error:
            await directory.authenticate("test", "x")
        assert error.value.reason == "directory_ambiguous"
        assert pair.asked == (1, 0)
