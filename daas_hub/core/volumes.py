"""Which folders a server sees, planned from the account and the profile (design.md §2, step 6).

On one machine the home is the account's own home; the wide form (claims, project and scratch volumes) is
planned here too when backends need it.
"""

from __future__ import annotations

from .models import Account, Mount

HOME = "home"
"""The volume every account has: one home for all her servers, whatever they are called."""


def plan_mounts(account: Account, home_volume_id: str, *, home_known: bool = False) -> tuple[Mount, ...]:
    """The mounts of a server of ``account``; ``home_known``: the ledger has seen her home made."""
    return (Mount(volume_id=home_volume_id, source=account.home, path=account.home, known=home_known),)
