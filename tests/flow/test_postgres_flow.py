"""A real hub with its ledger on PostgreSQL: start, kill of the hub, stop; hub, services and machine agree."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import Ledger
from tests.flow.site import Site
from tests.servers.postgres import PostgresServer
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "postgres"), pytest.mark.timeout(180)]


@pytest.fixture
def url() -> Iterator[str]:
    server = PostgresServer()
    server.start()
    yield server.url()
    server.remove()


async def test_a_server_starts_outlives_its_hub_and_stops_with_the_ledger_on_postgres(url: str) -> None:
    more = f'c.DaasHub.ledger_url = "{url}"\nc.Reconciler.every_s = 2\n'
    site = Site(proxy=False, cmd=list(program(reachable_python())), more=more)
    try:
        await site.start()
        await site.sign_in("ada")
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        ledger = Ledger.open(url, create=False)
        try:
            [row] = ledger.launches()
            pids = site.servers("ada")
            assert row.state is LaunchState.RUNNING
            assert row.handle is not None
            assert [row.handle["pid"]] == pids

            site.hub.signal(signal.SIGKILL)
            await site.hub.wait_gone()
            await site.hub.start()

            async def ready() -> bool:
                model = await site.hub.server("ada")
                return bool(model and model["ready"])

            await until(ready, within_s=40, every_s=0.2, what="the hub knows the server again")
            assert site.servers("ada") == pids

            assert (await site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
            await until(lambda: not site.servers("ada"), within_s=30, what="stopped")
            await until(
                lambda: [r.state for r in ledger.launches()] == [LaunchState.ENDED], within_s=20, what="settled"
            )
            assert ledger.recount() == []
        finally:
            ledger.close()
        assert not site.ledger_file.exists()
    finally:
        await site.stop()
