"""What the ledger's tests write into it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from daas_hub.core.models import Account, AccountGroup, Charge, LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import LaunchRow, Ledger, Reservation

NOW = datetime(2026, 3, 2, 8, 30, 15, 250_000, tzinfo=UTC)
GIB = 2**30


def reservation(account: str = "a1", server: str = "", **changes: Any) -> Reservation:
    """A start of two cores and 1 GiB by a student in a project."""
    values: dict[str, Any] = {
        "launch_id": new_id(),
        "hub_boot_id": "boot-1",
        "account_id": account,
        "user_name": f"user-{account}",
        "server_name": server,
        "groups": ("students", "physics"),
        "project": "beamtime",
        "profile": "basic",
        "charge": Charge(cores=2.0, memory_bytes=GIB),
        "backend": "local",
        "request": {"version": 1, "options": {"profile": "basic"}},
        "api_token_encrypted": b"\x00secret\xff",
        "source": "hub",
    }
    return Reservation(**{**values, **changes})


def account(**changes: Any) -> Account:
    """A person as the directory has her."""
    values: dict[str, Any] = {
        "id": "",
        "name": "alice",
        "uid": 5001,
        "gid": 5000,
        "groups": (AccountGroup("users", 5000), AccountGroup("physics", 5100)),
        "home": "/home/alice",
        "shell": "/bin/bash",
        "source": "ldap",
        "fetched_at": NOW,
        "display_name": "Alice Ä.",
    }
    return Account(**{**values, **changes})


def run(ledger: Ledger, row: LaunchRow, now: datetime) -> LaunchRow:
    """A launch on its way to RUNNING."""
    ledger.move(row.id, LaunchState.SUBMITTED, now=now)
    return ledger.move(row.id, LaunchState.RUNNING, now=now)


def settle(ledger: Ledger, row: LaunchRow, now: datetime) -> bool:
    """Its end, with evidence."""
    return ledger.settle(row.id, code=0, reason="left", evidence="exit status 0 seen by pidfd", now=now)
