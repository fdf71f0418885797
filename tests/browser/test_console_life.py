"""The console's process: it never holds up, it ends with its hub, and rights end when the hub ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from jupyterhub.services.auth import HubOAuth
from traitlets.config import Config

from daas_hub.services.console.access import QUOTA_READ, QUOTA_WRITE
from daas_hub.services.console.handler import hub_auth
from daas_hub.spawners.runtime import DaasHub
from daas_hub.wiring.console import UNREADABLE, HubPages
from tests.servers.console import ConsoleHub
from tests.waiting import until

pytestmark = [pytest.mark.needs("node")]

LIMIT = {"who": "default-each", "resource": "gpus", "amount": 1}


@pytest_asyncio.fixture
async def own_hub(tmp_path: Path) -> AsyncIterator[ConsoleHub]:
    """A hub for one test, which may harm it."""
    made = await ConsoleHub(tmp_path).start()
    yield made
    await made.stop()


async def test_a_writer_elsewhere_delays_and_blocks_nothing_else(own_hub: ConsoleHub) -> None:
    token = await own_hub.user_token("admin", QUOTA_WRITE)
    assert (await own_hub.rest("GET", "limits", token=token))[0] == 200
    other = sqlite3.connect(own_hub.root / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(own_hub.rest("POST", "limits", LIMIT, token=token))
    answered = 0
    # As long as the write waits for the ledger, everything else is answered at once.
    while not waiting.done():
        began = time.monotonic()
        assert (await own_hub.http("GET", f"{own_hub.console}health"))[0] == 200
        assert (await own_hub.rest("GET", "me/usage", token=token))[0] == 200
        assert time.monotonic() - began < 1.0
        answered += 1
    status, refused = await waiting
    assert (status, refused["reason"]) == (503, "ledger_busy"), refused
    assert answered > 10
    other.execute("ROLLBACK")
    other.close()
    assert (await own_hub.rest("POST", "limits", LIMIT, token=token))[0] == 200


async def test_who_is_no_longer_administrator_has_no_rights(own_hub: ConsoleHub) -> None:
    boss = await own_hub.user_token("admin", "admin:users")
    assert (await own_hub.api("PATCH", "users/bob", {"admin": True}, token=boss))[0] == 200
    scopes = (QUOTA_READ, QUOTA_WRITE)
    before, after = await own_hub.user_token("bob", *scopes), await own_hub.user_token("bob", *scopes)
    assert (await own_hub.rest("GET", "limits", token=before))[0] == 200
    assert (await own_hub.api("PATCH", "users/bob", {"admin": False}, token=boss))[0] == 200
    assert (await own_hub.rest("GET", "limits", token=after))[0] == 403


def test_an_answer_of_the_hub_is_believed_for_30_s() -> None:
    HubOAuth.clear_instance()
    try:
        assert hub_auth(logging.getLogger("test")).cache.max_age == 30
    finally:
        HubOAuth.clear_instance()


async def test_administrators_keep_their_rights_over_a_restart(own_hub: ConsoleHub) -> None:
    token = await own_hub.user_token("admin", QUOTA_READ)
    await own_hub.stop()
    await own_hub.start()
    assert (await own_hub.rest("GET", "limits", token=token))[0] == 200


async def test_the_console_ends_with_a_killed_hub_and_is_there_again_once(own_hub: ConsoleHub) -> None:
    first = consoles(own_hub)
    assert len(first) == 1
    own_hub.signal(signal.SIGKILL)
    await own_hub.wait_gone()
    await until(lambda: not any(alive(pid) for pid in first), within_s=10, what="the console of the killed hub to end")
    await own_hub.start()
    await until(lambda: len(consoles(own_hub)) == 1, within_s=10, what="one console")
    assert (await own_hub.http("GET", f"{own_hub.console}health"))[0] == 200


def consoles(hub: ConsoleHub) -> list[int]:
    """Processes of the console that belong to this hub, by its own ledger in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                argv = (folder / "cmdline").read_bytes().split(b"\0")
                environ = (folder / "environ").read_bytes()
            except OSError:
                continue
            if b"daas_hub.services.console" in argv and str(hub.root).encode() in environ:
                found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    """True where the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_the_home_page_comes_without_a_ledger(tmp_path: Path) -> None:
    class App:
        config = Config({"DaasHub": {"ledger_url": f"sqlite:///{tmp_path}/nowhere/ledger.sqlite"}})

    class User:
        name = "alice"

    DaasHub.clear_instance()
    try:
        assert await HubPages(App()).happened(User()) == UNREADABLE
    finally:
        DaasHub.clear_instance()
    assert os.listdir(tmp_path) == []
