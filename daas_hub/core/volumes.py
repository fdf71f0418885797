"""Which folders a server sees, planned from the account and the profile (design.md §2, step 6).

On one machine the home is the account's own home; the wide form (claims, project and scratch volumes) is
planned here too when backends need it.
"""

from __future__ import annotations

from .models import Account, Mount


def home_volume_id(account_id: str) -> str:
    """The volume id of an account's home: one home for all her servers, whatever they are called."""
    return f"home-{account_id}"


def plan_mounts(account: Account) -> tuple[Mount, ...]:
    """The mounts of a server of ``account``."""
    return (Mount(volume_id=home_volume_id(account.id), source=account.home, path=account.home),)
