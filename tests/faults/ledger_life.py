"""One process that lives on a ledger: it starts, runs and ends launches until it is told to stop, or is killed.

``python -m tests.faults.ledger_life URL NAME`` prints "ready", then the id of each launch after it was written
durably: ``+id`` reserved, ``-id`` settled. A line on stdin ends it.
"""

from __future__ import annotations

import random
import sys
import threading
from datetime import UTC, datetime

from daas_hub.core.errors import LedgerBusy
from daas_hub.core.models import Charge, Event, LaunchState, Target
from daas_hub.db.ledger import Ledger
from tests.contracts.ledger_samples import GIB, reservation


def main(url: str, name: str) -> None:
    ledger = Ledger.open(url, busy_timeout_s=10)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    print("ready", flush=True)
    dice, n, busy = random.Random(name), 0, 0
    while not stop.is_set():
        n += 1
        try:
            live(ledger, f"{name}-{n % 5}", f"s{n}", dice)
        except LedgerBusy:
            busy += 1
    print(f"done {n} {busy}", flush=True)
    ledger.close()


def live(ledger: Ledger, account: str, server: str, dice: random.Random) -> None:
    """One launch from its start to one of its ends, or left as it is."""
    now = datetime.now(UTC)
    row = ledger.reserve(reservation(account, server), now=now)
    print(f"+{row.id}", flush=True)
    if dice.random() < 0.3:
        ledger.reassign(row.id, backend="slurm", charge=Charge(dice.choice([0.5, 1.25]), GIB), now=now)
    ledger.move(row.id, LaunchState.SUBMITTED, now=now)
    ledger.save_handle(row.id, {"version": 1, "pid": 1}, now=now)
    ledger.add_events(row.id, [Event(now, "Submitted")])
    ledger.move(row.id, LaunchState.RUNNING, now=now)
    if dice.random() < 0.2:
        return
    ledger.set_target(row.id, Target.STOPPED, now=now, reason="enough", by=account)
    ledger.settle(row.id, code=0, reason="", evidence="exit status 0", now=datetime.now(UTC))
    print(f"-{row.id}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
