"""Somebody is blocked while her server runs: it is stopped by the reconciler, and says why."""

from __future__ import annotations

import signal

import pytest

from daas_hub.core.models import LaunchState
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]


async def test_the_server_of_a_blocked_user_is_stopped_after_the_restart() -> None:
    site = Site(proxy=False, cmd=list(program(reachable_python())), more="c.Reconciler.every_s = 2")
    try:
        await site.start()
        for name in ("ada", "bob"):
            await site.sign_in(name)
            assert (await site.hub.start_server(name))[0] in (201, 202)
        kept = site.servers("bob")
        site.hub.signal(signal.SIGTERM)
        await site.hub.wait_gone()
        site.hub.config += '\nc.Authenticator.blocked_users = {"ada"}\n'
        await site.hub.start()
        # The hub itself would have stopped it at once; ours is detached there and stopped with a reason (design §4.1).
        await until(lambda: not site.servers("ada"), within_s=100, every_s=0.2, what="ada's server is stopped")
        await until(
            lambda: all(r.state is LaunchState.ENDED for r in site.launches() if r.user_name == "ada"),
            within_s=20,
            every_s=0.2,
            what="settled",
        )
        (row,) = [r for r in site.launches() if r.user_name == "ada"]
        assert "may not use this hub" in row.reason
        assert site.servers("bob") == kept
    finally:
        await site.stop()
