"""The ledger under fire: writers killed at any moment, a writer that holds the lock, and a loop that must not wait."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daas_hub.core.models import ACTIVE, LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import Ledger
from daas_hub.db.pool import LedgerPool
from tests.contracts.ledger_samples import NOW, reservation
from tests.servers.postgres import PostgresServer
from tests.waiting import LONG

CLONE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    server: PostgresServer = request.getfixturevalue("server")
    return server.empty_database()


class Life:
    """A process of ``ledger_life``, and what it said was durable."""

    def __init__(self, url: str, name: str) -> None:
        argv = [sys.executable, "-m", "tests.faults.ledger_life", url, name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, cwd=CLONE, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.reserved: set[str] = set()
        self.settled: set[str] = set()
        self.done: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("\n"):
                continue  # killed while it wrote
            match line[0]:
                case "+":
                    self.reserved.add(line[1:-1])
                case "-":
                    self.settled.add(line[1:-1])
                case "r":
                    self._ready.set()
                case _:
                    self.done = line.split()

    def wait_ready(self) -> None:
        assert self._ready.wait(30)

    def kill(self) -> None:
        self.process.kill()
        self._finish()

    def end(self) -> tuple[int, int]:
        """Tell it to stop; how many lives it had and how many of them were told to try again."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._finish()
        return int(self.done[1]), int(self.done[2])

    def _finish(self) -> None:
        self.process.wait(30)
        self._reader.join(30)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def check_nothing_lost(ledger: Ledger, lives: list[Life]) -> None:
    """Sums follow from rows, and every row that was said to be durable is there."""
    assert ledger.recount() == []
    rows = {row.id: row for row in ledger.launches(limit=1_000_000)}
    for life in lives:
        assert life.reserved <= rows.keys()
        assert all(rows[launch_id].state is LaunchState.ENDED for launch_id in life.settled)


def test_a_killed_writer_leaves_whole_transactions(url: str) -> None:
    rounds = 40 if LONG else 6
    ledger = Ledger.open(url)
    dice = random.Random(12)
    lives: list[Life] = []
    for n in range(rounds):
        pair = [Life(url, f"r{n}{side}") for side in "ab"]
        for life in pair:
            life.wait_ready()
        # The moment is drawn, not awaited: the kill must hit any step of a transaction.
        threading.Event().wait(dice.uniform(0.02, 0.3))
        for life in pair:
            life.kill()
        lives += pair
        assert ledger.recount() == []
    check_nothing_lost(ledger, lives)
    assert sum(len(life.reserved) for life in lives) > rounds
    # What was left behind can be settled, and then nothing is held any more.
    for row in ledger.launches(states=list(ACTIVE), limit=1_000_000):
        assert ledger.settle(row.id, code=None, reason="lost", evidence="nothing of it was found", now=NOW)
    assert ledger.recount() == []
    assert {line.used for line in ledger.limits.effective("r0a-1", ["students"])} <= {0.0}
    ledger.close()


async def hold(url: str, seconds: float) -> None:
    """Let a fourth process hold a write transaction that stands in everybody's way."""
    argv = [sys.executable, "-m", "tests.faults.ledger_hold", url, str(seconds)]
    process = await asyncio.create_subprocess_exec(*argv, cwd=CLONE)
    assert await process.wait() == 0


async def longest_gap(until: asyncio.Event) -> float:
    """The longest time that the event loop did not come round, in seconds."""
    worst, before = 0.0, time.monotonic()
    while not until.is_set():
        await asyncio.sleep(0.01)
        now = time.monotonic()
        worst, before = max(worst, now - before), now
    return worst


@pytest.mark.timeout(180)
async def test_four_writers_and_one_holds_the_lock(url: str) -> None:
    """Hub, console and reconciler write while a fourth process's transaction stays open for 3 s."""
    lasts_s = 60.0 if LONG else 6.0
    ledger = await asyncio.to_thread(Ledger.open, url, busy_timeout_s=10)
    pool, over = LedgerPool(), asyncio.Event()
    gap = asyncio.create_task(longest_gap(over))
    others = [Life(url, name) for name in ("console", "reconciler")]
    for life in others:
        await asyncio.to_thread(life.wait_ready)
    began, mine, slowest_s = time.monotonic(), [], 0.0
    holder: asyncio.Task[None] | None = None
    while (elapsed_s := time.monotonic() - began) < lasts_s:
        if holder is None and elapsed_s > 1:
            holder = asyncio.create_task(hold(url, 3.0))
        call_s = time.monotonic()
        row = await pool.run(ledger.reserve, reservation("hub", new_id()), now=NOW)
        await pool.run(ledger.settle, row.id, code=0, reason="", evidence="seen", now=NOW)
        slowest_s = max(slowest_s, time.monotonic() - call_s)
        mine.append(row.id)
    assert holder is not None
    await holder
    ends = [await asyncio.to_thread(life.end) for life in others]
    over.set()
    assert await gap < 1.0
    assert slowest_s > 2.0  # the fault was there: somebody waited for the lock
    assert all(lives > 0 and busy == 0 for lives, busy in ends)
    await asyncio.to_thread(check_nothing_lost, ledger, others)
    kept = {row.id for row in await pool.run(ledger.launches, limit=1_000_000)}
    assert set(mine) <= kept
    pool.close()
    await asyncio.to_thread(ledger.close)
