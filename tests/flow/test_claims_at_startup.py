"""A hub on another hub's ledger, or in the place of another ledger, does not start and says why."""

from __future__ import annotations

from pathlib import Path

from daas_hub.db.ledger import Ledger

from .test_profiles_at_startup import start

PROFILES = [{"display_name": "Basic", "resources": {"cpu_limit": 1, "mem_limit": "1G"}}]


def claim(root: Path, hub_id: str) -> str:
    ledger = Ledger.open(f"sqlite:///{root}/ledger.sqlite")
    try:
        return ledger.claim(hub_id)
    finally:
        ledger.close()


def test_the_ledger_of_another_hub_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, "elsewhere")
    status, lines = start(tmp_path, PROFILES)
    assert status == 1
    assert "DaasHub.hub_id is 'hub', but this ledger belongs to the hub 'elsewhere': set hub_id back, or" in lines
    assert not (tmp_path / "run" / "hub" / "ledger").exists()


def test_the_place_of_another_ledger_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, "hub")
    place = tmp_path / "run" / "hub"
    place.mkdir(parents=True)
    (place / "ledger").write_text("another")
    status, lines = start(tmp_path, PROFILES)
    assert status == 1
    assert f"{place} belongs to a hub with another ledger: give this hub another DaasHub.hub_id or" in lines
    assert f"remove {place}/ledger" in lines
