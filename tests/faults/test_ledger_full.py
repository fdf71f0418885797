"""The ledger's disk is full while the hub runs: refusals that say so, nothing half-started, nothing lost afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.core.models import ACTIVE, LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.faults.aftermath import differences, faulty_site, watched_site
from tests.faults.small_disk import SmallDisk, small_disk
from tests.flow.site import Site
from tests.servers.tiny_server import get
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """Outside the site's folder, which the site removes while its ledger is still mounted."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as top, small_disk(Path(top) / "ledger") as disk:
        yield disk


def site_on(disk: SmallDisk, more: str = "") -> Site:
    site = watched_site(more=more)
    site.ledger_file = disk.path / "ledger.sqlite"
    return site


def of(site: Site, name: str) -> LaunchRow:
    """Her newest launch."""
    return next(row for row in site.launches() if row.user_name == name)


async def healthy(site: Site) -> None:
    assert (await site.hub.http("GET", f"{site.hub.hub_url}/hub/health"))[0] == 200


async def settled(site: Site, *names: str) -> None:
    await until(
        lambda: all(of(site, name).state is LaunchState.ENDED for name in names),
        within_s=40,
        every_s=0.2,
        what=f"launches of {names} are settled",
    )


async def test_a_start_an_end_and_a_stop_while_nothing_can_be_written(disk: SmallDisk) -> None:
    async with faulty_site("ada", "bob", "boss", "carl", site=site_on(disk)) as site:
        for name in ("ada", "boss", "carl"):
            assert (await site.hub.start_server(name))[0] in (201, 202)
        carl = site.servers("carl")
        disk.fill()

        status, answer = await site.hub.api("POST", "users/bob/server")
        assert status == 503
        assert "disk is full" in answer["message"]
        assert "administrator" in answer["message"]
        model = await site.hub.server("bob")
        assert model is None or model["pending"] is None
        assert not site.servers("bob")
        assert "bob" not in {row.user_name for row in site.launches()}
        await healthy(site)

        os.kill(site.servers("ada")[0], signal.SIGKILL)
        stop = asyncio.create_task(site.hub.api("DELETE", "users/boss/server"))
        # The stop is carried out although nobody can write it down.
        await until(lambda: not site.servers("boss"), within_s=30, every_s=0.1, what="boss's server is stopped")
        assert (await stop)[0] in (202, 204)
        await healthy(site)
        assert {row.user_name for row in site.launches() if row.state in ACTIVE} == {"ada", "boss", "carl"}
        # People can sign in meanwhile and see their page, and who works goes on working.
        await site.sign_in("bob")
        row = of(site, "carl")
        assert row.handle is not None
        assert (await asyncio.to_thread(get, f"http://127.0.0.1:{row.handle['port']}/user/carl/whoami"))["pid"]
        assert not disk_has_room(disk), "the disk was full all the time"

        disk.empty()
        await settled(site, "ada", "boss")
        assert site.servers() == carl
        await until(lambda: _starts(site, "bob"), within_s=20, every_s=0.2, what="bob starts now")
        await until(lambda: _starts(site, "ada"), within_s=40, every_s=0.2, what="ada starts anew")
        await until(lambda: not differences(site), within_s=30, every_s=0.2, what="all agree")


async def test_the_disk_fills_up_in_the_middle_of_a_start(disk: SmallDisk) -> None:
    flag = disk.path / "fill"
    more = (
        "from tests.flow.failing import DiskFillingBackend\n"
        f'c.DaasHub.backends = {{"local": DiskFillingBackend}}\nc.DiskFillingBackend.flag = "{flag}"\n'
    )
    async with faulty_site("ada", "bob", site=site_on(disk, more)) as site:
        flag.write_text("prepare")
        for name, moment in (("ada", "prepare"), ("bob", "checkpoint")):
            flag.write_text(moment)
            status, answer = await site.hub.api("POST", f"users/{name}/server")
            assert status == 503, (moment, answer)
            assert "disk is full" in answer["message"], (moment, answer)
            assert of(site, name).state in ACTIVE, f"{moment}: the reservation was there when the disk filled up"
            await until(lambda: not site.servers(), within_s=20, every_s=0.1, what="nothing half-started")
            await healthy(site)
            disk.empty()
            await settled(site, name)
        flag.unlink()
        for name in ("ada", "bob"):
            await until(lambda who=name: _starts(site, who), within_s=20, every_s=0.2, what=f"{name} starts now")


async def _starts(site: Site, name: str) -> bool:
    status, _ = await site.hub.api("POST", f"users/{name}/server")
    return status in (201, 202) or bool(site.servers(name))


def disk_has_room(disk: SmallDisk) -> bool:
    return os.statvfs(disk.path).f_bavail > 0
