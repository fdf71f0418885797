"""A hub that is killed in mid-start, before the handle is saved: no folder, no secret and no token of it is left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.faults.aftermath import faulty_site
from tests.flow.site import Site
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

STANDS_STILL = """
import asyncio as _asyncio, os as _os
from daas_hub.backends.local_limits import Limiter as _Limiter
_hold = _Limiter.hold
async def _stand_still(self, *given):
    while _os.path.exists("stand-still"):
        await _asyncio.sleep(0.1)
    return await _hold(self, *given)
_Limiter.hold = _stand_still
"""
"""A start does not go on to its handle while that file is there: so the moment of the kill is certain."""


async def test_a_hub_killed_before_it_saved_the_handle_leaves_neither_folder_nor_token() -> None:
    async with faulty_site("ada", more=STANDS_STILL) as site:
        token, secrets = await interrupted(site)
        await site.hub.start()
        assert (await site.hub.api("GET", "user", token=token))[0] == 403, "the token works no more"
        row = await until(lambda: ended(site), within_s=40, every_s=0.1, what="launch settled")
        assert row.handle is None
        assert not secrets.parents[1].exists(), "with the end the folder is gone"


async def interrupted(site: Site) -> tuple[str, Path]:
    """Token and file of secrets of a start that a SIGKILL of the hub interrupted."""
    stop = site.hub.root / "stand-still"
    stop.touch()
    assert (await site.hub.api("POST", "users/ada/server"))[0] == 202
    folders = site.run / site.hub_id
    secrets: Path = await until(lambda: next(folders.glob("*/own/secrets"), None), within_s=30, what="secrets")
    [line] = (site.hub.root / "launch_tokens").read_text().splitlines()
    token = line.split()[1]
    assert (await site.hub.api("GET", "user", token=token))[0] == 200
    [row] = site.launches()
    assert row.handle is None
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    assert token in secrets.read_text()
    stop.unlink()
    return token, secrets


def ended(site: Site) -> LaunchRow | None:
    """The interrupted launch, once it is settled."""
    [row] = site.launches()
    return row if row.state is LaunchState.ENDED else None
