"""Somebody whom the directory gives no uid: the hub gives her one, her server runs as it, and it stays hers."""

from __future__ import annotations

import os
import signal

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.accounts import AccountRow
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import BASE, Entry
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

MORE = """
c.DaasLDAPAuthenticator.user_filter = "(uid={{name}})"
c.DaasLDAPAuthenticator.allowed_users = {{"noposix", "numbered"}}
c.DaasSpawner.allocated_uids = [[{first}, {last}]]
c.DaasSpawner.allocated_gids = [[{first}, {last}]]
c.DaasSpawner.fallback_home = "{homes}/{{name}}"
"""
FIRST, LAST = 270_000, 270_002
NUMBERED = f"""dn: uid=numbered,ou=people,{BASE}
objectClass: inetOrgPerson
objectClass: posixAccount
uid: numbered
cn: Numbered
sn: Numbered
uidNumber: {FIRST}
gidNumber: {FIRST + 1}
homeDirectory: /home/numbered
"""


async def test_she_runs_as_the_next_number_that_nobody_has() -> None:
    site = Site(proxy=False, cmd=list(program(reachable_python())))
    site.more = MORE.format(first=FIRST, last=LAST, homes=site.homes)
    try:
        await site.start()
        # The directory gives the first uid and the second gid to somebody else meanwhile.
        await site.slapd.add(NUMBERED)
        status, _ = await site.login_answer("noposix", Entry("noposix", 0, ()).password)
        assert status == 200
        await start(site)
        account = account_of(site, "noposix")
        assert (account.uid, account.gid, account.source) == (FIRST + 1, FIRST, "allocator")
        assert account.home == str(site.home("noposix"))
        about = site.home("noposix").stat()
        assert (about.st_uid, about.st_gid) == (account.uid, account.gid)
        assert running_as(account.uid)

        status, _ = await site.hub.api("DELETE", "users/noposix/server")
        assert status in (202, 204)
        await until(lambda: not running_as(account.uid), within_s=30, every_s=0.2, what="her server has ended")
        site.hub.signal(signal.SIGTERM)
        await site.hub.wait_gone()
        await site.hub.start()
        await start(site)
        assert account_of(site, "noposix").uid == account.uid
    finally:
        await site.stop()


def account_of(site: Site, user_name: str) -> AccountRow:
    ledger = site.ledger()
    try:
        row = ledger.accounts.by_user_name(user_name)
    finally:
        ledger.close()
    assert row is not None
    return row


async def start(site: Site) -> None:
    assert (await site.hub.start_server("noposix"))[0] in (201, 202)
    await until(lambda: site.launches()[0].state is LaunchState.RUNNING, within_s=60, every_s=0.2, what="it runs")


def running_as(uid: int) -> list[int]:
    """Pids of processes with this uid."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:
                found.append(int(name))
        except FileNotFoundError:
            continue
    return found
