"""Hub, console and reconciler write while a fourth process holds the ledger again and again: nothing is lost."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from daas_hub.services.console.access import QUOTA_WRITE
from tests.faults.aftermath import faulty_site
from tests.flow.site import Site
from tests.waiting import LONG, until

LASTS_S = 60.0 if LONG else 12.0
HELD_S, LET_GO_S = 3.0, 1.0
HOLDER = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    db.execute("BEGIN IMMEDIATE")
    time.sleep(float(sys.argv[3]))
    db.execute("ROLLBACK")
    time.sleep(float(sys.argv[4]))
"""

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(240)]


async def test_three_write_while_a_fourth_holds_the_ledger() -> None:
    async with faulty_site("ada", "bob", "boss", proxy=True) as site:
        scopes = ["access:services!service=daas", QUOTA_WRITE]
        _, made = await site.hub.api("POST", "users/boss/tokens", {"scopes": scopes})
        argv = (sys.executable, "-c", HOLDER, str(site.ledger_file), str(LASTS_S), str(HELD_S), str(LET_GO_S))
        holder = await asyncio.create_subprocess_exec(*argv)
        ends_at = time.monotonic() + LASTS_S
        began, set_to = await asyncio.gather(_hub_writes(site, ends_at), _console_writes(site, made["token"], ends_at))
        assert await holder.wait() == 0
        assert began > 0, "the hub never got to write"
        assert set_to, "the console never got to write"
        rows = [row for row in site.launches() if row.user_name == "bob"]
        assert len(rows) == began
        ledger = site.ledger()
        try:
            (limit,) = ledger.limits.list()
            changes = [entry for entry in ledger.audit.list(limit=10_000) if entry.why == "shared"]
        finally:
            ledger.close()
        # What was answered 200 is there once, in its order; what was told to try again left nothing.
        assert sorted((change.new or {})["amount"] for change in changes) == set_to
        assert limit.amount == set_to[-1]
        # The reconciler worked under the same lock: nobody else had to take its place.
        assert "has lost its lease" not in site.hub.log_text()


async def _hub_writes(site: Site, ends_at: float) -> int:
    """Starts and stops of bob's server until then; how many starts were taken."""
    began = 0
    while time.monotonic() < ends_at:
        status, answer = await site.hub.start_server("bob")
        assert status in (201, 202, 503), answer
        if status == 503:
            continue
        began += 1
        status, answer = await site.hub.api("DELETE", "users/bob/server")
        assert status in (202, 204), answer
        await until(lambda: not site.servers("bob"), within_s=40, every_s=0.1, what="bob's server has ended")
    return began


async def _console_writes(site: Site, token: str, ends_at: float) -> list[float]:
    """A limit changed again and again until then; the amounts that were taken, in their order."""
    url = f"{site.hub.url}/services/daas/api/v1/limits"
    headers = {"Authorization": f"token {token}"}
    taken: list[float] = []
    amount = 100
    while time.monotonic() < ends_at:
        amount += 1
        body: dict[str, Any] = {"who": "default-each", "name": "", "resource": "servers", "amount": amount}
        status, answer = await site.hub.http("POST", url, {**body, "note": "shared"}, headers)
        assert status in (200, 503), answer
        if status == 200:
            taken.append(float(amount))
        await asyncio.sleep(0.05)
    return taken
