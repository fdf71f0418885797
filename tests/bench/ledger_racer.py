"""One of two processes that race for starts: ``python -m tests.bench.ledger_racer URL NAME COUNT``.

Prints "ready"; on a line from stdin it asks for COUNT starts at once, as a hub does it (an event loop and the bounded
pool), and prints how many were admitted, refused, and told to try again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from datetime import UTC, datetime

from daas_hub.core.errors import LedgerBusy, QuotaExceeded
from daas_hub.core.models import Charge
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import Ledger, Reservation
from daas_hub.db.pool import LedgerPool


def start(name: str, n: int, group: str) -> Reservation:
    """One start of one of the people of this racer."""
    return Reservation(
        launch_id=new_id(),
        hub_boot_id="bench",
        account_id=f"{name}-{n}",
        user_name=f"{name}-{n}",
        server_name="",
        groups=(group, "everybody", "staff"),
        project="beamtime",
        profile="basic",
        charge=Charge(cores=0.5, memory_bytes=2**30),
        backend="local",
        request={"version": 1},
        api_token_encrypted=b"0" * 100,
        source="bench",
    )


async def race(url: str, name: str, count: int) -> None:
    """Wait for the signal, then all at once."""
    ledger, pool = Ledger.open(url, busy_timeout_s=60), LedgerPool()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results: Counter[str] = Counter()

    async def one(n: int) -> None:
        try:
            await pool.run(ledger.reserve, start(name, n, "racers"), now=datetime.now(UTC))
            results["admitted"] += 1
        except QuotaExceeded:
            results["refused"] += 1
        except LedgerBusy:
            results["busy"] += 1

    await asyncio.gather(*(one(n) for n in range(count)))
    print(json.dumps(results), flush=True)
    pool.close()
    ledger.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3])))
