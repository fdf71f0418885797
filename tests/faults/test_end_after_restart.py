"""A server that outlived a restart of its hub is watched by the new one: its end is seen, not found at some look."""

from __future__ import annotations

import os
import signal

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import faulty_site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

NOBODY_LOOKS = "c.Spawner.poll_interval = 3600\nc.Reconciler.every_s = 3600\n"


async def test_the_end_of_a_server_that_an_earlier_boot_began_is_seen_by_its_watcher() -> None:
    async with faulty_site("ada", more=NOBODY_LOOKS) as site:
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        [pid] = site.servers("ada")
        site.hub.signal(signal.SIGTERM)
        await site.hub.wait_gone()
        await site.hub.start()

        async def known() -> bool:
            model = await site.hub.server("ada")
            return bool(model and model["ready"])

        await until(known, within_s=30, what="the new hub has it")
        assert site.servers("ada") == [pid]
        os.kill(pid, signal.SIGKILL)
        [launch] = site.launches()

        def ended() -> bool:
            return site.launches()[0].state is LaunchState.ENDED

        await until(ended, within_s=30, every_s=0.1, what="the launch is ended")
        [said] = [line for line in site.hub.log_text().splitlines() if f"Launch {launch.id} of ada ended" in line]
        # The reconciler, a poll and the next start say "reports that it has ended".
        assert said.endswith("(local saw it end)")

        async def forgotten() -> bool:
            return not (await site.hub.server("ada") or {}).get("ready")

        await until(forgotten, within_s=30, what="the hub knows it too")
