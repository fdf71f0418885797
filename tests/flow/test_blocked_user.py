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

LEASE_S, STOP_S = 15, 50
"""What docs/reference/reconciler.md says how long it takes at most, where the backend answers."""


@pytest.mark.parametrize("renamed", [False, True], ids=["by-her-name", "by-her-new-name"])
async def test_the_server_of_a_blocked_user_is_stopped_after_the_restart(renamed: bool) -> None:
    site = Site(proxy=False, cmd=list(program(reachable_python())), more="c.Reconciler.every_s = 2")
    blocked = {"ada"}
    try:
        await site.start()
        for name in ("ada", "bob", "carl"):
            await site.sign_in(name)
            assert (await site.hub.start_server(name))[0] in (201, 202)
        kept = {name: site.servers(name) for name in ("bob", "carl")}
        if renamed:
            assert (await site.hub.api("PATCH", "users/ada", {"name": "adele"}))[0] == 200
            assert (await site.hub.api("PATCH", "users/carl", {"name": "charles"}))[0] == 200
            # A name that a server was started under, and that nobody has now, concerns nobody.
            blocked = {"adele", "carl"}
        site.hub.signal(signal.SIGTERM)
        await site.hub.wait_gone()
        site.hub.config += f"\nc.Authenticator.blocked_users = {blocked!r}\n"
        await site.hub.start()

        # The hub itself would have stopped it at once; ours is detached there and stopped with a reason (design §4.1).
        def settled() -> bool:
            return [r.state for r in site.launches() if r.user_name == "ada"] == [LaunchState.ENDED]

        await until(settled, within_s=LEASE_S + STOP_S, every_s=0.2, what="her launch has ended")
        assert not site.servers("ada")
        (row,) = [r for r in site.launches() if r.user_name == "ada"]
        assert "may not use this hub" in row.reason
        assert row.target_by == "reconciler"
        others = {r.user_name: r.state for r in site.launches() if r.id != row.id}
        assert others == {"bob": LaunchState.RUNNING, "carl": LaunchState.RUNNING}
        assert {name: site.servers(name) for name in kept} == kept
    finally:
        await site.stop()
