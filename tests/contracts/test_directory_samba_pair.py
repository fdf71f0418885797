"""Two controllers of one Active Directory: whoever is asked, a person is the same, and a failed password is one's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from daas_hub.clients.directory import Directory, Verdict
from tests.contracts.test_directory_samba import settings
from tests.servers.samba import PEOPLE, Samba
from tests.servers.samba_second import SecondSamba
from tests.waiting import until

pytestmark = [pytest.mark.needs("samba"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def second(samba: Samba, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samba]:
    """Joined for real."""
    server = asyncio.run(SecondSamba(tmp_path_factory.mktemp("samba"), samba).start())
    yield server
    asyncio.run(server.stop())


async def test_both_controllers_know_the_same_people_and_what_one_is_told(samba: Samba, second: Samba) -> None:
    one, other = Directory(settings(samba)), Directory(settings(second))
    try:
        for name in ("ada", "deep", "prima"):
            assert await one.lookup(name) == await other.lookup(name) is not None
        counts = [await server.value(PEOPLE["emil"].dn, "badPwdCount") for server in (samba, second)]
        assert (await other.authenticate("emil", "wrong")).verdict is Verdict.WRONG
        # badPwdCount is each controller's own: the password was tried at one of them, once.
        assert await samba.value(PEOPLE["emil"].dn, "badPwdCount") == counts[0]
        assert int(await second.value(PEOPLE["emil"].dn, "badPwdCount")) == int(counts[1] or 0) + 1
        change = f"dn: {PEOPLE['emil'].dn}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: "
        await samba.modify(f"{change}514\n")
        try:

            async def told() -> bool:
                found = await other.lookup("emil")
                return found is not None and found[1] is Verdict.DISABLED

            await until(told, within_s=120, every_s=0.5, what="the second controller has it, too")
        finally:
            await samba.modify(f"{change}512\n")
    finally:
        one.close()
        other.close()
