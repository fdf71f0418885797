"""A directory that says of nearly everybody that she has left: not believed, until an administrator says so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.servers.hub import http_call
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import BASE
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]
STUDENTS = [f"student{n}" for n in range(12)]
RENAME = f"dn: cn={{}},ou=groups,{BASE}\nchangetype: modrdn\nnewrdn: cn={{}}\ndeleteoldrdn: 1\n"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(cmd=list(program(reachable_python())))
    made.more = "c.Reconciler.sweep_every_s = 2\nc.JupyterHub.authenticate_prometheus = False\n"
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def enrol(site: Site) -> None:
    """Twelve more people in the group that may sign in; all do."""
    for number, name in enumerate(STUDENTS):
        await site.slapd.add(
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\n"
            f"cn: {name}\nsn: Test\nuidNumber: {21000 + number}\ngidNumber: 30001\nhomeDirectory: /nowhere/{name}\n"
            f"userPassword: {name}-secret\n"
        )
    for name in STUDENTS:
        assert (await Visitor(site.hub.url).sign_in({"name": name, "password": f"{name}-secret"}))[0] == 200


def held(site: Site) -> float:
    """As the hub's metrics have it."""
    text = http_call("GET", f"{site.hub.url}/hub/metrics", None, {})[1]
    return float(re.findall(r"^daas_identity_held_people (.+)$", text, re.MULTILINE)[0])


def swept(site: Site, pattern: str) -> int:
    return len(re.findall(f"Swept: .*{pattern}", site.hub.log_text()))


async def audited(site: Site, action: str) -> int:
    ledger = site.ledger()
    found = sum(row.action == action for row in ledger.audit.list(limit=500))
    ledger.close()
    return found


async def test_most_people_do_not_leave_at_once(site: Site) -> None:
    hub = site.hub
    ada, boss = Visitor(hub.url), Visitor(hub.url)
    for name, browser in (("ada", ada), ("boss", boss)):
        assert (await browser.sign_in({"name": name, "password": site.person(name).password}))[0] == 200
    await enrol(site)
    _, made = await hub.api("POST", "users/boss/tokens", {"note": "administration"})
    _, hers = await hub.api("POST", "users/ada/tokens", {"note": "hers"})
    assert (await hub.start_server("ada"))[0] in (201, 202)
    pids = site.servers("ada")
    assert pids

    # A fault of the directory: the group that may sign in is called otherwise. The administrator is in another one.
    await site.slapd.modify(RENAME.format("lab", "lab2"))
    await until(lambda: swept(site, "held 13") >= 2, within_s=30, what="two sweeps that hold", every_s=0.1)
    assert "13 of 14 people seem to have left" in hub.log_text()
    assert site.servers("ada") == pids
    assert await audited(site, "end_access") == 0
    assert held(site) == 13
    # Mended: everybody is as she was.
    await site.slapd.modify(RENAME.format("lab2", "lab"))
    await until(lambda: held(site) == 0, within_s=30, what="mended", every_s=0.1)
    assert site.servers("ada") == pids

    # They did leave: nobody but an administrator can say so.
    await site.slapd.modify(RENAME.format("lab", "lab2"))
    before = swept(site, "held 13")
    await until(lambda: swept(site, "held 13") > before, within_s=30, what="held again", every_s=0.1)
    assert (await hub.api("POST", "daas/sweep/believed", token=hers["token"]))[0] == 403
    assert (await hub.api("POST", "daas/sweep/believed", token=made["token"]))[0] == 204
    await until(lambda: swept(site, "ended 13"), within_s=30, what="ended", every_s=0.1)
    await until(lambda: not site.servers("ada"), within_s=30, what="her server's end", every_s=0.1)
    assert (await hub.api("GET", "user", token=hers["token"]))[0] == 403
    assert await audited(site, "end_access") == 13
    assert await audited(site, "believe_sweep") == 1
