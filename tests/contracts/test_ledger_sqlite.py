"""The ledger's contract on SQLite, and what holds there only."""

from __future__ import annotations

import re
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import event

from daas_hub.core.errors import ConfigError, LedgerBusy
from daas_hub.core.models import Resource, Who
from daas_hub.db.filesystem import file_system, refuse_network_files
from daas_hub.db.ledger import Ledger

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


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.sqlite"


class TestLaunchesOnSqlite(LaunchContract):
    pass


class TestBooksOnSqlite(BooksContract):
    pass


class TestGrantsOnSqlite(GrantsContract):
    pass


class TestVolumesOnSqlite(VolumesContract):
    pass


class TestGroupsOnSqlite(GroupsContract):
    pass


class TestLinksOnSqlite(LinksContract):
    pass


class TestRacesOnSqlite(RaceContract):
    pass


class TestAllocationsOnSqlite(AllocationContract):
    pass


class TestSchemaOnSqlite(SchemaContract):
    pass


def test_the_file_is_private_and_durable(url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(url)
    ledger.reserve(reservation(), now=NOW)
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    settings = ledger._db.read(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    assert settings == ["wal", 2]
    ledger.close()


def test_a_locked_ledger_says_try_again(url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(url, busy_timeout_s=0.3)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    results: list[type] = []

    def start(n: int) -> None:
        try:
            ledger.reserve(reservation(server=str(n)), now=NOW)
        except LedgerBusy as error:
            results.append(type(error))

    threads = [threading.Thread(target=start, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 1.5
    assert results == [LedgerBusy] * 4
    assert ledger.launches() == []  # readers never wait for a writer
    other.execute("ROLLBACK")
    ledger.reserve(reservation(), now=NOW)
    other.close()
    ledger.close()


def test_a_full_disk_writes_nothing_and_says_so(url: str) -> None:
    ledger = Ledger.open(url)
    row = ledger.reserve(reservation(), now=NOW)

    def no_more_pages(c: object) -> None:
        pages = c.exec_driver_sql("PRAGMA page_count").scalar()  # type: ignore[attr-defined]
        c.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    ledger._db.read(no_more_pages)
    with pytest.raises(LedgerBusy, match="disk is full") as refused:
        ledger.save_handle(row.id, {"version": 1, "text": "x" * 500_000}, now=NOW)
    assert refused.value.reason == "ledger_full"
    stored = ledger.get(row.id)
    assert stored is not None
    assert stored.handle is None
    ledger.close()


def test_a_file_that_is_no_ledger_is_left_alone(url: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_bytes(b"something else entirely" * 200)
    with pytest.raises(LedgerBusy, match="damaged or is no ledger"):
        Ledger.open(url)
    assert file.read_bytes().startswith(b"something else")


def test_no_sql_younger_than_3_34(url: str) -> None:
    ledger = Ledger.open(url)
    spoken: list[str] = []
    event.listen(ledger._db.engine, "checkout", lambda raw, *_rest: raw.set_trace_callback(spoken.append))
    BooksContract().test_another_uid_waits_for_an_administrator(ledger)
    BooksContract().test_a_lease_has_one_holder(ledger)
    LaunchContract().test_from_start_to_end(ledger)
    ledger.limits.set(Who.DEFAULT_EACH, "", Resource.CORES, 4, by="admin:root", now=NOW)
    assert ledger.recount(fix=True) == []
    assert len(spoken) > 60
    young = re.compile(r"\b(RETURNING|STRICT|DROP COLUMN|MATERIALIZED|ILIKE|->>?)\b|->", re.IGNORECASE)
    assert [sql for sql in spoken if young.search(sql)] == []
    schema = ledger._db.read(lambda c: c.exec_driver_sql("SELECT sql FROM sqlite_master").scalars().all())
    assert [sql for sql in schema if sql and young.search(sql)] == []
    ledger.close()


MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 21 0:40 / /home rw shared:5 - nfs4 server:/home rw,vers=4.2
31 21 0:41 / /mnt/with\\040space rw - fuse.sshfs me@there:/ rw
32 21 0:42 / /srv rw - nfs server:/srv rw
33 21 254:1 / /srv rw - xfs /dev/vdb rw
34 21 0:43 / /run/containers rw - fuse.fuse-overlayfs overlay rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/daas.sqlite", "ext4"),
        ("/home/hub/daas.sqlite", "nfs4"),
        ("/homework/daas.sqlite", "ext4"),
        ("/mnt/with space/daas.sqlite", "fuse.sshfs"),
        ("/srv/daas.sqlite", "xfs"),
    ],
)
def test_the_file_system_under_a_path(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind


def test_a_network_file_system_is_refused_with_two_ways_out() -> None:
    with pytest.raises(ConfigError, match=r"/home/hub/daas.sqlite.*nfs4.*local disk.*PostgreSQL"):
        refuse_network_files(Path("/home/hub/daas.sqlite"), mountinfo=MOUNTS)
    with pytest.raises(ConfigError, match=r"fuse\.sshfs"):
        refuse_network_files(Path("/mnt/with space/x"), mountinfo=MOUNTS)
    refuse_network_files(Path("/run/containers/x"), mountinfo=MOUNTS)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////nowhere/at/all/l.sqlite", "folder does not exist"),
        ("mysql://localhost/x", "SQLite and PostgreSQL"),
        ("no url", "cannot be read"),
    ],
)
def test_a_url_that_cannot_work_is_refused(bad: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Ledger.open(bad)
