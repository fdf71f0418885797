"""Which folders a server sees, planned from the account and the profile (design.md §2, step 6).

On one machine the home is the account's own home; the wide form (claims, project and scratch volumes) is
planned here too when backends need it.
"""

from __future__ import annotations

from .models import Account, Json, Mount

HOME = "home"
"""The volume every account has: one home for all her servers, whatever they are called."""


def home_place(account: Account) -> Json:
    """Where an account's home is on a machine, as the volume's row says it."""
    return {"version": 1, "path": account.home}


def plan_mounts(account: Account, home_volume_id: str) -> tuple[Mount, ...]:
    """The mounts of a server of ``account``."""
    return (Mount(volume_id=home_volume_id, source=account.home, path=account.home),)
