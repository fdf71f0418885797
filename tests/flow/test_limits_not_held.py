"""On a machine that cannot hold CPU and memory, the person who starts is told, and sees it while her server runs."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator

import pytest

from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(120)]

NO_CGROUPS = """
from daas_hub.clients import cgroups as _cgroups
_cgroups.detect = lambda family: _cgroups.Place("none", reason="cgroups are read-only")
"""
SAID = "limits not enforced here: cgroups are read-only"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Servers listen only when the person's home has the file ``go``, so that a start can be looked at."""
    made = Site(cmd=list(program(reachable_python(), until="{HOME}/go")), more=NO_CGROUPS, proxy=False)
    try:
        yield await made.start()
    finally:
        await made.stop()


def progress(site: Site) -> list[str]:
    """The steps that the progress page gets until the server's process runs. Blocks."""
    url = f"{site.hub.hub_url}/hub/api/users/ada/server/progress"
    request = urllib.request.Request(url, headers={"Authorization": f"token {site.hub.token}"})
    steps: list[str] = []
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as stream:
        for line in stream:
            if line.startswith(b"data:"):
                steps.append(json.loads(line[5:])["message"])
                if "process runs as uid" in steps[-1]:
                    break
    return steps


async def test_it_is_said_on_the_progress_page_and_on_the_home_page(site: Site) -> None:
    await site.sign_in("ada")
    assert (await site.hub.api("POST", "users/ada/server"))[0] == 202
    steps = await asyncio.to_thread(progress, site)
    assert f"CPU and memory {SAID}" in steps, "while it starts"
    (site.home("ada") / "go").touch()

    async def ready() -> bool:
        model = await site.hub.server("ada")
        return bool(model and model["ready"])

    await until(ready, within_s=30, what="her server")
    page = await site.page("ada", "/hub/home")
    assert SAID in page
