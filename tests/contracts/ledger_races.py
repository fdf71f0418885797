"""The ledger's contract under competition: many threads and processes, and upgrades at the same moment."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daas_hub.core.errors import ConfigError, LaunchConflict, QuotaExceeded
from daas_hub.core.models import Charge, Resource, Who
from daas_hub.db.ledger import Ledger

from .ledger import Opened
from .ledger_samples import GIB, NOW, account, reservation

CLONE = Path(__file__).resolve().parents[2]

STARTER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from daas_hub.core.errors import QuotaExceeded
from daas_hub.db.ledger import Ledger
from tests.contracts.ledger_samples import NOW, reservation

url, name, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = Ledger.open(url, busy_timeout_s=30)
print("ready", flush=True)
sys.stdin.readline()

def start(i):
    try:
        ledger.reserve(reservation(f"{name}{i}"), now=NOW)
    except QuotaExceeded:
        return 0
    return 1

with ThreadPoolExecutor(16) as threads:
    print(sum(threads.map(start, range(n))))
ledger.close()
"""


class RaceContract(Opened):
    """Exactly as many as the limit says, never one more."""

    def test_a_hundred_at_once_against_ten_from_threads(self, ledger: Ledger) -> None:
        ledger.limits.set(Who.GROUP_TOTAL, "students", Resource.SERVERS, 10, by="admin:root", now=NOW)

        def start(n: int) -> bool:
            try:
                ledger.reserve(reservation(f"a{n}"), now=NOW)
            except QuotaExceeded as error:
                assert error.exceeded.used <= 10  # noqa: PT017  another thread's refusal
                return False
            return True

        with ThreadPoolExecutor(32) as threads:
            assert sum(threads.map(start, range(100))) == 10
        assert len(ledger.launches()) == 10

    def test_a_hundred_at_once_against_ten_from_two_processes(self, ledger: Ledger, url: str) -> None:
        ledger.limits.set(Who.GROUP_TOTAL, "physics", Resource.CORES, 20, by="admin:root", now=NOW)
        pipe = subprocess.PIPE
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER, url, name, "50"], stdin=pipe, stdout=pipe, text=True, cwd=CLONE
            )
            for name in ("left", "right")
        ]
        for starter in starters:
            assert starter.stdout is not None
            assert starter.stdout.readline() == "ready\n"
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("go\n")
            starter.stdin.flush()
        admitted = [int(starter.communicate(timeout=50)[0]) for starter in starters]
        assert sum(admitted) == 10
        assert len(ledger.launches()) == 10

    def test_the_same_server_at_once_is_started_once(self, ledger: Ledger) -> None:
        def start(_: int) -> str | None:
            try:
                return ledger.reserve(reservation(), now=NOW).id
            except LaunchConflict as error:
                assert error.launch_id  # noqa: PT017  another thread's refusal
                return None

        with ThreadPoolExecutor(16) as threads:
            started = [launch_id for launch_id in threads.map(start, range(40)) if launch_id]
        assert [row.id for row in ledger.launches()] == started
        assert len(started) == 1

    def test_scopes_in_any_order_never_deadlock(self, ledger: Ledger) -> None:
        groups = ("one", "two", "three", "four")

        def life(n: int) -> bool:
            mine = groups[n % 4 :] + groups[: n % 4]
            row = ledger.reserve(reservation(f"a{n % 7}", f"s{n}", groups=mine), now=NOW)
            ledger.reassign(row.id, backend="slurm", charge=Charge(1.0, GIB), now=NOW)
            return ledger.settle(row.id, code=0, reason="", evidence="seen", now=NOW)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(life, range(80)))

    def test_one_home_however_many_servers_start_at_once(self, ledger: Ledger) -> None:
        stored = ledger.accounts.upsert(account(), ("ldap:site", "uuid-1"), "ada", NOW)
        place = {"version": 1, "path": stored.home}

        def ensure(_n: int) -> str:
            return ledger.volumes.ensure("home", "local", place, now=NOW, account_id=stored.id).id

        with ThreadPoolExecutor(16) as threads:
            found = set(threads.map(ensure, range(32)))
        assert len(found) == 1
        (volume,) = ledger.volumes.list(account_id=stored.id)
        assert (volume.id, volume.place) == (found.pop(), place)
        moved = ledger.volumes.ensure("home", "local", {**place, "path": "/elsewhere"}, now=NOW, account_id=stored.id)
        assert moved.id != volume.id, "another place is another volume; the known one is kept"

    def test_several_may_open_a_new_ledger_at_once(self, url: str) -> None:
        with ThreadPoolExecutor(4) as threads:
            ledgers = list(threads.map(lambda _: Ledger.open(url, busy_timeout_s=20), range(4)))
        for each in ledgers:
            assert each.launches() == []
            each.close()

    def test_without_create_a_new_database_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigError, match="db upgrade"):
            Ledger.open(url, create=False)
