"""Groups count as the directory has them at the start, whoever presses Start."""

from __future__ import annotations

import pytest

from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import BASE
from tests.servers.tiny_server import program

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(120)]

LEAVE = "dn: cn={group},ou=groups,{base}\nchangetype: modify\ndelete: memberUid\nmemberUid: carl\n"

PROFILES = """
c.DaasSpawner.profile_list = [
    {"display_name": "Basic", "slug": "basic", "resources": {"cpu_limit": 1, "mem_limit": "512M"}},
    {"display_name": "Boss", "slug": "boss", "allowed_groups": ["operators"],
     "resources": {"cpu_limit": 1, "mem_limit": "512M"}},
]
"""


async def test_who_left_a_group_is_started_without_it_or_not_at_all() -> None:
    site = Site(proxy=False, cmd=list(program(reachable_python())), more=PROFILES)
    try:
        await site.start()
        join = LEAVE.replace("delete: memberUid", "add: memberUid").format(group="operators", base=BASE)
        await site.slapd.modify(join)
        await site.sign_in("carl")
        assert (await site.hub.start_server("carl", options={"profile": "boss"}))[0] in (201, 202)
        await site.hub.stop_server("users/carl/server")

        # An administrator's token presses Start; carl does not come by himself.
        await site.slapd.modify(LEAVE.format(group="operators", base=BASE))
        status, answer = await site.hub.api("POST", "users/carl/server", {"profile": "boss"})
        assert status == 403, answer
        assert "not open to you" in answer["message"]
        assert not site.servers("carl")
        assert (await site.hub.start_server("carl", options={"profile": "basic"}))[0] in (201, 202)
        (row,) = [r for r in site.launches() if r.ended_at is None]
        assert "operators" not in row.groups
        await site.hub.stop_server("users/carl/server")

        # And from the only group that may sign in.
        await site.slapd.modify(LEAVE.format(group="lab", base=BASE))
        status, answer = await site.hub.api("POST", "users/carl/server", {"profile": "basic"})
        assert status == 403, answer
        assert not site.servers("carl")
    finally:
        await site.stop()
