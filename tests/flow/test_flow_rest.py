"""The flow by REST: login, start as the real uid, limits, ends, stop. Real hub, real slapd, real uid."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daas_hub.core.models import LaunchState, Resource, Who
from tests.flow.site import Site, unknown_to_nss
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]


async def test_wrong_unknown_locked_and_not_allowed_are_told_apart(site: Site) -> None:
    wrong = await site.login_answer("ada", "nonsense")
    unknown = await site.login_answer("nobody-here", "nonsense")
    locked = await site.login_answer("locked", site.person("locked").password)
    closed = await site.login_answer("eve", site.person("eve").password)
    assert wrong[0] == unknown[0] == 403
    assert "Invalid username or password" in wrong[1]
    assert "Invalid username or password" in unknown[1]
    assert locked[0] == closed[0] == 403
    assert "locked" in locked[1]
    assert "not open to you" in closed[1]


async def test_a_server_runs_as_the_directorys_account(site: Site) -> None:
    ada = site.person("ada")
    assert unknown_to_nss(ada.uid)
    await site.sign_in("ada")
    status, answer = await site.hub.start_server("ada")
    assert status in (201, 202), answer
    (pid,) = site.servers("ada")
    status_lines = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert status_lines["Uid"].split() == [str(ada.uid)] * 4
    assert status_lines["Gid"].split() == [str(ada.gid)] * 4
    assert status_lines["Groups"].split() == [str(ada.gid)]
    assert status_lines["NoNewPrivs"] == "1"
    assert int(status_lines["CapBnd"], 16) == 0
    home = site.home("ada").stat()
    assert (home.st_uid, home.st_gid, home.st_mode & 0o777) == (ada.uid, ada.gid, 0o700)
    (row,) = [r for r in site.launches() if r.user_name == "ada" and r.state is not LaunchState.ENDED]
    assert row.state is LaunchState.RUNNING
    assert row.handle is not None
    assert row.handle["uid"] == ada.uid
    assert site.hub.token not in Path(f"/proc/{pid}/cmdline").read_text()
    await site.hub.stop_server("users/ada/server")
    await until(lambda: not site.servers("ada"), what="server gone")
    assert next(r for r in site.launches() if r.id == row.id).state is LaunchState.ENDED


async def test_a_profile_shapes_the_server(site: Site) -> None:
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada", options={"profile": "small"}))[0] in (201, 202)
    (pid,) = site.servers("ada")
    pairs = (entry.partition("=") for entry in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    environment = {name: value for name, _, value in pairs}
    assert environment["MEM_LIMIT"] == str(512 * 2**20)
    assert environment["CPU_LIMIT"] == "0.5"
    assert environment["FROM_PROFILE"] == "yes"
    assert environment["JUPYTERHUB_DEFAULT_URL"] == "/tree"
    assert environment["HOME"] == str(site.home("ada"))
    assert "JUPYTERHUB_CRYPT_KEY" not in environment
    assert "CONFIGPROXY_AUTH_TOKEN" not in environment
    await site.hub.stop_server("users/ada/server")


async def test_uid_0_of_the_directory_is_refused(site: Site) -> None:
    await site.sign_in("rooted")
    status, answer = await site.hub.start_server("rooted")
    assert status == 403
    assert "uid 0 is below the lowest one allowed" in answer["message"]
    assert not [r for r in site.launches() if r.user_name == "rooted"]


async def test_a_limit_refuses_with_numbers_and_names_what_fits(site: Site) -> None:
    ledger, now = site.ledger(), datetime.now(UTC)
    limit = ledger.limits.set(Who.GROUP_EACH, "lab", Resource.CORES, 1, by="test", now=now, note="")
    try:
        await site.sign_in("bob")
        status, answer = await site.hub.start_server("bob", options={"profile": "large"})
        assert status == 403
        for said in ("4 cores", "1 core", "lab", "Basic", "Small"):
            assert said in answer["message"], answer["message"]
        assert not site.servers("bob")
        page = await site.page("bob", "/hub/spawn")
        # Only the large profile is over the limit of one core.
        assert page.count("Over your limit") == 1
        assert page.index("Large") < page.index("Over your limit")
        status, _ = await site.hub.start_server("bob", options={"profile": "basic"})
        assert status in (201, 202)
        await site.hub.stop_server("users/bob/server")
    finally:
        ledger.limits.delete(limit.id, by="test", now=now)
        ledger.close()


async def test_a_server_that_ends_by_itself_frees_its_reservation_at_once(site: Site) -> None:
    ledger, now = site.ledger(), datetime.now(UTC)
    await site.sign_in("bob")
    limit = ledger.limits.set(Who.DEFAULT_EACH, "", Resource.SERVERS, 1, by="test", now=now, note="")
    try:
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        (pid,) = site.servers("bob")
        os.kill(pid, signal.SIGKILL)

        async def stopped() -> bool:
            model = await site.hub.server("bob")
            return bool(model and model["stopped"])

        await until(stopped, within_s=5, what="the hub knows")
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        await site.hub.stop_server("users/bob/server")
    finally:
        ledger.limits.delete(limit.id, by="test", now=now)
        ledger.close()


async def test_two_named_servers_share_one_home(site: Site) -> None:
    await site.sign_in("ada")
    first, second = await asyncio.gather(
        site.hub.start_server("ada", "one"), site.hub.start_server("ada", "two", {"profile": "small"})
    )
    assert {first[0], second[0]} <= {201, 202}
    assert len(site.servers("ada")) == 2
    for name in ("one", "two"):
        status, _ = await site.hub.api("DELETE", f"users/ada/servers/{name}")
        assert status == 204
    await until(lambda: not site.servers("ada"), what="both gone")
