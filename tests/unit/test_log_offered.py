"""Where a log is offered: only where there is one, or can be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import Ledger
from daas_hub.pages import TEMPLATES
from daas_hub.services.console import launch_queries
from daas_hub.services.console.access import QUOTA_READ, Person
from daas_hub.wiring.console import failed_starts
from tests.contracts.ledger_samples import reservation

LINK = "Log of the server"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADMIN = Person("root", "user", (), frozenset({QUOTA_READ}))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield ledger
    ledger.close()


def start(ledger: Ledger, name: str) -> str:
    """A start that was handed over."""
    row = ledger.reserve(reservation(server=name), now=NOW)
    ledger.move(row.id, LaunchState.SUBMITTED, now=NOW)
    return row.id


def has_log(ledger: Ledger, launch_id: str) -> bool:
    return launch_queries.detail(ledger, launch_id, ADMIN, QUOTA_READ).has_log


def test_a_start_whose_image_never_came_offers_no_log_and_one_that_spoke_does(ledger: Ledger) -> None:
    silent, spoke = start(ledger, "silent"), start(ledger, "spoke")
    assert not has_log(ledger, spoke), "nothing runs that could be asked"
    for one in (silent, spoke):
        ledger.save_handle(one, {"backend": "kubernetes", "version": 1}, now=NOW)
        assert has_log(ledger, one), "its server can be asked"
    ledger.keep_log(spoke, "last words")
    for one in (silent, spoke):
        ledger.settle(one, code=None, reason="it did not start", evidence="gone", now=NOW)
    row = ledger.get(spoke)
    assert row is not None
    assert {one: has_log(ledger, one) for one in (silent, spoke)} == {silent: False, spoke: True}
    failed = failed_starts(ledger, row.account_id, NOW - timedelta(days=1))
    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    shown = {
        one.launch.id: env.get_template("daas/failed_starts.html").render(
            failed_starts=[one], daas={"console_url": "/console/"}
        )
        for one in failed
    }
    assert {one: LINK in page for one, page in shown.items()} == {silent: False, spoke: True}
