"""A directory that cannot be asked for hours, with the hub's clock moved: nobody who is signed in loses anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from daas_hub.core.models import LaunchState
from tests.flow.site import Site
from tests.servers.demo import Visitor
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]

SWEEP_S = 2
HOUR = 3600
MORE = """
import pathlib, time
from daas_hub.spawners.runtime import DaasHub
DaasHub.now = staticmethod(lambda: time.time() + float(pathlib.Path({clock!r}).read_text()))
c.Reconciler.sweep_every_s = {sweep}
c.DaasLDAPAuthenticator.answer_within_s = 1
c.DaasLDAPAuthenticator.login_within_s = 2
c.DaasLDAPAuthenticator.hold_down_s = 0.5
"""


@dataclass
class Outage:
    """A site behind a proxy that can be silent, and its clock."""

    site: Site
    proxy: FaultProxy

    def move(self, seconds: float) -> None:
        """How much later it is than outside."""
        (self.site.state / "clock").write_text(str(seconds))

    async def sweeps(self, count: int, **wanted: int) -> None:
        """Wait for so many more sweeps that found this."""
        said = "Swept: .*" + "".join(f".*{name} {number}" for name, number in wanted.items())
        before = len(found(self.site, said))
        await until(lambda: len(found(self.site, said)) >= before + count, within_s=60, what=said, every_s=0.1)


def found(site: Site, pattern: str) -> list[str]:

    return re.findall(pattern, site.hub.log_text())


@pytest.fixture
async def outage() -> AsyncIterator[Outage]:
    site = Site(cmd=list(program(reachable_python())))
    site.more = MORE.format(clock=str(site.state / "clock"), sweep=SWEEP_S)
    proxy = await FaultProxy(site.slapd.port).start()
    site.directory_uri = f"ldap://{proxy.host}:{proxy.port}"
    made = Outage(site, proxy)
    made.move(0)
    try:
        await site.start()
        yield made
    finally:
        proxy.fault = Fault.NONE
        await site.stop()
        await proxy.stop()


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.GARBAGE])
async def test_hours_without_a_directory(outage: Outage, fault: Fault) -> None:
    site, hub = outage.site, outage.site.hub
    browsers, tokens = {}, {}
    for name in ("ada", "bob", "boss"):
        browsers[name] = Visitor(hub.url)
        assert (await browsers[name].sign_in({"name": name, "password": site.person(name).password}))[0] == 200
        _, made = await hub.api("POST", f"users/{name}/tokens", {"note": "mine"})
        tokens[name] = made["token"]
    assert (await hub.start_server("ada"))[0] in (201, 202)
    pids = site.servers("ada")
    assert pids
    outage.proxy.fault = fault

    async def unharmed() -> None:
        for name, browser in browsers.items():
            assert (await hub.api("GET", "user", token=tokens[name]))[0] == 200
            assert "username_input" not in (await browser.call("GET", "/hub/home"))[1]
        assert site.servers("ada") == pids

    # Four hours: everybody works on, starts included; an administrator's limit is an hour.
    outage.move(4 * HOUR)
    await outage.sweeps(2, ended=0, unreachable=3)
    await unharmed()
    assert "cannot be asked just now" in (await browsers["ada"].call("GET", "/hub/home"))[1]
    status, said = await hub.start_server("bob")
    assert status in (201, 202), said
    status, said = await hub.start_server("boss")
    assert status == 503
    assert "4 h" in said["message"]
    assert "1 h after it" in said["message"]
    # A day later nothing is started any more, and still nothing ends.
    outage.move(25 * HOUR)
    await outage.sweeps(2, ended=0, unreachable=3)
    await unharmed()
    assert (await hub.api("DELETE", "users/bob/server"))[0] in (202, 204)
    await until(lambda: not site.servers("bob"), within_s=30, what="stopped")
    status, said = await hub.start_server("bob")
    assert status == 503
    assert "1 d 1 h old" in said["message"]
    assert "new ones are not started" in (await browsers["bob"].call("GET", "/hub/home"))[1]
    # Pages only show what is there; a token of hers does what it did.
    assert "nothing is changed from these pages" in (await browsers["bob"].call("GET", "/services/daas/"))[1]
    for path in ("/hub/spawn/bob", "/hub/api/users/bob/tokens", "/services/daas/notices/1/dismiss"):
        status, said = await browsers["bob"].call("POST", path, {"profile": "basic"}, form="api" not in path)
        assert (status, "Nothing was changed" in said) == (503, True), (path, said)
    assert (await hub.api("POST", "users/bob/tokens", {"note": "by token"}, token=tokens["bob"]))[0] == 201
    # It answers again, and so does everything here.
    outage.proxy.fault = Fault.NONE
    outage.move(0)

    async def started() -> bool:
        return (await hub.start_server("boss"))[0] in (201, 202)

    await until(started, within_s=30, what="an administrator's start", every_s=0.5)

    async def open_again() -> bool:
        return (await browsers["bob"].call("POST", "/hub/api/users/bob/tokens", {}))[0] == 201

    await until(open_again, within_s=30, what="her pages", every_s=0.5)
    assert {r.user_name for r in site.launches() if r.state is LaunchState.RUNNING} >= {"ada", "boss"}
