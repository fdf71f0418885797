"""A start that fails is not forgotten: why, its steps, its log, its making, for its owner and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daas_hub.core.launch import CANCELLED
from daas_hub.core.models import LaunchState
from daas_hub.core.version import VERSION
from daas_hub.services.console.access import LOGS_READ, QUOTA_READ
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(240)]


@asynccontextmanager
async def tiny_site(**tiny: object) -> AsyncIterator[Site]:
    """A site whose servers are tiny; bob and carl signed in."""
    site = Site(cmd=list(program(reachable_python(), **tiny)))
    try:
        await site.start()
        for name in ("bob", "carl"):
            await site.sign_in(name)
        yield site
    finally:
        await site.stop()


async def token(site: Site, name: str, *scopes: str) -> str:
    """A token of a person for the console."""
    body = {"scopes": ["access:services!service=daas", *scopes]}
    status, made = await site.hub.api("POST", f"users/{name}/tokens", body)
    assert status == 201, made
    return str(made["token"])


async def ask(site: Site, path: str, as_: str) -> tuple[int, Any]:
    """A GET of the console's REST interface."""
    url = f"{site.hub.url}/services/daas/api/v1/{path}"
    return await site.hub.http("GET", url, None, {"Authorization": f"token {as_}"})


async def test_a_failed_start_keeps_its_reason_its_steps_and_its_log() -> None:
    async with tiny_site(exit=3, print="<b>no luck</b> token={JUPYTERHUB_API_TOKEN}") as site:
        assert (await site.hub.start_server("bob"))[0] == 500
        (row,) = site.launches()
        assert row.started_at is None
        # From the ledger: the hub's own memory of it goes with its process.
        await site.hub.stop()
        await site.hub.start()
        for page in ("/hub/home", "/hub/spawn", "/hub/spawn-pending/bob"):
            text = await site.page("bob", page)
            assert "did not start:" in text, page
            assert "failed with exit status 3" in text, page
            assert "Steps of this start" in text, page
            assert "s · Starting the server as bob" in text, page
        assert "did not start" not in await site.page("carl", "/hub/home")
        mine, theirs = await token(site, "bob"), await token(site, "carl")
        status, log = await ask(site, f"launches/{row.id}/log", mine)
        assert (status, log["source"]) == (200, "kept")
        assert log["text"] == "<b>no luck</b> token=…"
        status, detail = await ask(site, f"launches/{row.id}", mine)
        assert status == 200
        assert any(event["message"].startswith("Starting the server as bob") for event in detail["events"])
        for path in ("", "/log", "/recipe"):
            assert (await ask(site, f"launches/{row.id}{path}", theirs))[0] == 404, path
            assert (await ask(site, f"launches/{row.id}{path}", ""))[0] == 403, path
        (ledger_row,) = site.launches()
        assert ledger_row.reason == row.reason


async def test_others_read_only_what_they_have_the_scope_for() -> None:
    async with tiny_site(print="hello token={JUPYTERHUB_API_TOKEN}") as site:
        options = {"profile": "small"}
        assert (await site.hub.start_server("bob", options=options))[0] in (201, 202)
        (row,) = site.launches()
        path = f"launches/{row.id}"
        # It runs: read now, from where it runs.
        status, log = await ask(site, f"{path}/log", await token(site, "bob"))
        assert (status, log["source"], log["text"]) == (200, "server", "hello token=…")
        # What the console asks of the hub, nobody else may.
        for foreign in (site.hub.token, await token(site, "bob"), "0" * 32):
            assert (await site.hub.api("GET", f"daas/launches/{row.id}/log", token=foreign))[0] == 403
        await site.sign_in("boss")
        for scopes, seen in (((QUOTA_READ,), (200, 404, 200)), ((LOGS_READ,), (404, 200, 404))):
            as_ = await token(site, "boss", *scopes)
            assert tuple([(await ask(site, path + part, as_))[0] for part in ("", "/log", "/recipe")]) == seen, scopes
        await until(lambda: _software(site, row.id), what="what it is made of is written down")
        _, recipe = await ask(site, f"{path}/recipe", await token(site, "bob"))
        assert (recipe["version"], recipe["profile"]["slug"], recipe["backend"]) == (1, "small", "local")
        assert (recipe["resources"]["cpu_limit"], recipe["resources"]["mem_limit_bytes"]) == (0.5, 512 * 2**20)
        assert recipe["versions"]["daas_hub"] == VERSION
        assert recipe["versions"]["jupyterhub"]
        assert recipe["software"]["interpreter"]
        assert recipe["software"]["packages"] is not None
        assert "hello" not in json.dumps(recipe)
        home = await site.page("bob", "/hub/home")
        assert f"/services/daas/launches/{row.id}/recipe.json" in home
        assert (await site.hub.api("DELETE", "users/bob/server"))[0] in (202, 204)
        await until(lambda: site.launches()[0].state is LaunchState.ENDED, what="it has ended")
        # Nothing failed, so nothing of its log is kept.
        status, log = await ask(site, f"{path}/log", await token(site, "bob"))
        assert (status, log["source"], log["text"]) == (200, "none", None)


def _software(site: Site, launch_id: str) -> bool:
    ledger = site.ledger()
    try:
        return ledger.kept(launch_id).software is not None
    finally:
        ledger.close()


@pytest.mark.parametrize("cancelled", ["", "extra"], ids=["default", "named"])
async def test_cancel_stops_exactly_this_server(cancelled: str) -> None:
    async with tiny_site(until="{HOME}/go") as site:
        other = "extra" if cancelled == "" else ""
        starts = {name: asyncio.create_task(site.hub.start_server("bob", name)) for name in (cancelled, other)}
        await until(lambda: len(site.servers("bob")) == 2, what="both began")
        path = f"users/bob/servers/{cancelled}" if cancelled else "users/bob/server"
        assert (await site.hub.api("DELETE", path))[0] in (202, 204)
        await until(
            lambda: {r.server_name: r.state for r in site.launches()}[cancelled] is LaunchState.ENDED,
            what="the cancelled one has ended",
        )
        assert len(site.servers("bob")) == 1
        (site.home("bob") / "go").touch()
        assert (await starts[other])[0] in (201, 202)
        await starts[cancelled]
        rows = {r.server_name: r for r in site.launches()}
        assert (rows[cancelled].state, rows[cancelled].reason) == (LaunchState.ENDED, CANCELLED)
        assert rows[other].state is LaunchState.RUNNING
        assert len(site.servers("bob")) == 1
        assert [folder.name for folder in (site.run / site.hub_id).iterdir() if folder.is_dir()] == [rows[other].id]
        # Cancelled is not failed.
        assert "did not start" not in await site.page("bob", "/hub/home")
