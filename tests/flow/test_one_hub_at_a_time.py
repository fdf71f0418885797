"""A second hub of the same ledger is refused while the first one lives; when that is gone it follows at once."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daas_hub.db.ledger import Ledger
from daas_hub.wiring import alone
from tests.flow.test_profiles_at_startup import start
from tests.servers.hub import HubServer
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)
CONFIG = """
from daas_hub import configure
configure(c)
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.DaasSpawner.profile_list = [{"display_name": "Basic", "resources": {"cpu_limit": 1, "mem_limit": "1G"}}]
"""
PROFILES = [{"display_name": "Basic", "resources": {"cpu_limit": 1, "mem_limit": "1G"}}]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[HubServer]:
    root = tmp_path / "first"
    root.mkdir()
    server = await HubServer(root, CONFIG).start()
    yield server
    await server.stop()


def copied(hub: HubServer, tmp_path: Path) -> tuple[int | None, str]:
    """Start the copy: other ports and another database of the hub; ledger, place and name are the first one's."""
    root = tmp_path / "second"
    root.mkdir(exist_ok=True)
    more = f"""
c.DaasHub.ledger_url = "sqlite:///{hub.root}/ledger.sqlite"
c.LocalBackend.runtime_dir = "{hub.root}/run"
"""
    return start(root, PROFILES, more)


async def test_a_copied_configuration_is_refused_while_the_first_hub_lives(hub: HubServer, tmp_path: Path) -> None:
    assert hub.process is not None
    # Not even a hub that has not said for long that it lives is pushed aside: its process is there.
    ledger = Ledger.open(f"sqlite:///{hub.root}/ledger.sqlite", create=False)
    try:
        hub.signal(signal.SIGSTOP)
        known = ledger.leases.held("hub:hub")
        assert known is not None
        assert ledger.leases.acquire("hub:hub", known[0], -60, datetime.now(UTC))
        status, lines = copied(hub, tmp_path)
        assert status == 1
        assert f"The hub 'hub' runs already with this ledger, as process {hub.process.pid} on " in lines
        assert json.loads(known[0])["pid"] == hub.process.pid
    finally:
        hub.signal(signal.SIGCONT)
        ledger.close()
    assert (await hub.http("GET", f"{hub.hub_url}/hub/health"))[0] == 200


async def test_a_killed_hub_is_followed_at_once_and_one_that_ended_gives_its_place_back(hub: HubServer) -> None:
    ledger = Ledger.open(f"sqlite:///{hub.root}/ledger.sqlite", create=False)
    try:
        before = ledger.leases.held("hub:hub")
        assert before is not None
        hub.signal(signal.SIGKILL)
        await hub.wait_gone()
        said = len(hub.log_text())
        await hub.start()
        after = ledger.leases.held("hub:hub")
        assert after is not None
        assert after[0] != before[0]
        # It did not wait: it was there before the killed one's time was over.
        assert after[1] < before[1] + timedelta(seconds=alone.LEASE_S)
        # From then on it hears SIGTERM; its pages answer a little earlier.
        await until(lambda: "JupyterHub is now running" in hub.log_text()[said:], what="the hub runs")
        await hub.stop()
        assert ledger.leases.held("hub:hub") is None
    finally:
        ledger.close()


async def test_a_hub_elsewhere_is_waited_for_and_refused_only_if_it_lives(tmp_path: Path) -> None:
    """Its process cannot be looked for from here, so its time decides."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    elsewhere = json.dumps({"boot_id": "another", "pid": 7, "start_time": 1, "pids": "pid:[1]", "host": "node-7"})
    server = HubServer(tmp_path, CONFIG)
    try:
        assert ledger.leases.acquire("hub:hub", elsewhere, 3, datetime.now(UTC))
        await server.start()
        known = ledger.leases.held("hub:hub")
        assert known is not None
        assert server.process is not None
        assert json.loads(known[0])["pid"] == server.process.pid
    finally:
        await server.stop()
        ledger.close()
