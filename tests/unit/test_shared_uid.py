"""Where everybody runs under the hub's own uid, one uid of several people is no fault; everywhere else it is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from traitlets.config import Config

from daas_hub.core.errors import AccountRefused
from daas_hub.db.ledger import Ledger
from daas_hub.demo import life, people
from daas_hub.spawners.runtime import DaasHub

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(("allowed", "uid", "shares"), [(True, 54321, True), (True, 0, False), (False, 54321, False)])
def test_a_uid_is_shared_only_without_root_and_by_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool, uid: int, shares: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    settings = {"runtime_dir": str(tmp_path), "allow_shared_uid": allowed}
    assert DaasHub(config=Config({"LocalBackend": settings})).shares_uid() is shares


def test_the_demo_without_root_is_seeded_with_one_uid_for_all(tmp_path: Path) -> None:
    site = people.cast(tmp_path, shared_uid=(54321, 54321))
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    try:
        assert life.seed(ledger, site, people.subjects(site), NOW, idle_after_s=120) > 0
        accounts = ledger.accounts.list()
        assert (len(accounts), {account.uid for account in accounts}) == (5, {54321})
        assert ledger.accounts.uid_changes() == []
        # For a hub that gives everybody a uid of her own it is a fault.
        newcomer = life.account_of(site.people[0], site, NOW)
        with pytest.raises(AccountRefused, match="uid 54321, which"):
            ledger.accounts.upsert(newcomer, ("ldap:demo", "somebody"), "somebody", NOW)
    finally:
        ledger.close()
