"""How a server gets its token: by a file that only its account can read, never by what a start hands on openly."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import watched_site
from tests.faults.leaks import leaks, site_processes
from tests.faults.test_killed_in_start import STANDS_STILL
from tests.flow.site import Site
from tests.servers.tiny_server import get
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]


async def test_the_token_reaches_the_server_by_a_file_of_its_account_and_nobody_else_sees_it() -> None:
    site = watched_site(more=STANDS_STILL)
    try:
        await site.start()
        await site.sign_in("ada")
        stop = site.hub.root / "stand-still"
        stop.touch()
        assert (await site.hub.api("POST", "users/ada/server"))[0] == 202
        folders = site.run / site.hub_id
        secrets: Path = await until(lambda: next(folders.glob("*/own/secrets"), None), within_s=30, what="secrets")
        [line] = (site.hub.root / "launch_tokens").read_text().splitlines()
        token = line.split()[1]
        facts, ada = secrets.stat(), site.person("ada").uid
        assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (ada, 0o600)
        assert json.loads(secrets.read_text()) == {"JUPYTERHUB_API_TOKEN": token, "JPY_API_TOKEN": token}
        assert [pid for pid in site_processes(site) if holds(pid, token)] == [], "nothing has it before the server"
        assert await asyncio.to_thread(leaks, site) == []
        stop.unlink()
        await _server_has_it(site, token)
        assert not secrets.exists()
        assert await asyncio.to_thread(leaks, site) == []
    finally:
        await site.stop()


async def _server_has_it(site: Site, token: str) -> None:
    row = await until(
        lambda: next((r for r in site.launches() if r.state is LaunchState.RUNNING), None), within_s=30, what="a server"
    )
    who = await asyncio.to_thread(get, f"http://127.0.0.1:{row.handle['port']}/user/ada/whoami")
    assert who["environment"]["JUPYTERHUB_API_TOKEN"] == token
    assert [pid for pid in site_processes(site) if holds(pid, token)] == [who["pid"]]


def holds(pid: int, token: str) -> bool:
    """Whether a process has it among its arguments or variables, whoever may read those."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return token.encode() in text
