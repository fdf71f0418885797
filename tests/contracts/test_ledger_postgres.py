"""The ledger's contract on PostgreSQL, and what holds there only."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from daas_hub.core.errors import LedgerBusy
from daas_hub.db.ledger import Ledger
from tests.servers.postgres import PostgresServer

from .ledger import LaunchContract
from .ledger_allocations import AllocationContract
from .ledger_books import BooksContract
from .ledger_grants import GrantsContract
from .ledger_groups import GroupsContract
from .ledger_links import LinksContract
from .ledger_races import RaceContract
from .ledger_samples import NOW, reservation
from .ledger_schema import SchemaContract
from .ledger_volumes import VolumesContract

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.empty_database()


class TestLaunchesOnPostgres(LaunchContract):
    pass


class TestBooksOnPostgres(BooksContract):
    pass


class TestGrantsOnPostgres(GrantsContract):
    pass


class TestVolumesOnPostgres(VolumesContract):
    pass


class TestGroupsOnPostgres(GroupsContract):
    pass


class TestLinksOnPostgres(LinksContract):
    pass


class TestRacesOnPostgres(RaceContract):
    pass


class TestAllocationsOnPostgres(AllocationContract):
    pass


class TestSchemaOnPostgres(SchemaContract):
    pass


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def test_a_locked_scope_says_try_again_and_others_go_on(url: str) -> None:
    ledger = Ledger.open(url, busy_timeout_s=0.3)
    ledger.reserve(reservation("a1", groups=(), project=None), now=NOW)
    with psycopg.connect(_plain(url)) as other:
        other.execute("SELECT * FROM balance WHERE scope = 'user:a1' FOR UPDATE")
        with pytest.raises(LedgerBusy, match="Try again"):
            ledger.reserve(reservation("a1", "two", groups=(), project=None), now=NOW)
        ledger.reserve(reservation("a2", groups=(), project=None), now=NOW)
        other.rollback()
    ledger.reserve(reservation("a1", "two", groups=(), project=None), now=NOW)
    assert len(ledger.launches()) == 3
    ledger.close()


def test_a_restarted_server_is_found_again() -> None:
    server = PostgresServer()
    server.start()
    try:
        ledger = Ledger.open(server.url(), busy_timeout_s=2)
        ledger.reserve(reservation("a1"), now=NOW)
        server.stop()
        with pytest.raises(LedgerBusy, match="cannot be reached") as refused:
            ledger.reserve(reservation("a2"), now=NOW)
        assert refused.value.reason == "ledger_unreachable"
        server.start()
        ledger.reserve(reservation("a2"), now=NOW)
        assert len(ledger.launches()) == 2
        assert ledger.recount() == []
        ledger.close()
    finally:
        server.remove()
