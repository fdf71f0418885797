"""The demo's thirty days: what somebody finds on the pages before anybody has started a server."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from daas_hub.core.errors import ConfigError
from daas_hub.core.models import LaunchState, Resource, Who
from daas_hub.db.ledger import Ledger
from daas_hub.demo import people
from daas_hub.demo.life import DAYS, seed
from daas_hub.demo.probe import probe_accounts

NOW = datetime(2026, 5, 20, 15, 30, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> people.Site:
    return people.cast(tmp_path / "homes", shared_uid=None)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    yield made
    made.close()


def test_the_ledger_is_filled_as_if_thirty_days_had_happened(ledger: Ledger, site: people.Site) -> None:
    count = seed(ledger, site, people.subjects(site), NOW, idle_after_s=30)
    rows = ledger.launches(limit=10_000)
    assert len(rows) == count > DAYS
    assert {row.state for row in rows} == {LaunchState.ENDED}
    # The rule that this demo runs with, not its default.
    rules = {"idle for 30 s (rule Basic)", "idle for 1 h (rule Data Science)"}
    assert {row.reason for row in rows} == {"stopped by its owner", *rules}
    began = [row.created_at for row in rows]
    assert max(began) < NOW
    assert NOW - timedelta(days=DAYS + 1) < min(began) < NOW - timedelta(days=DAYS - 3)
    locked = {p.name for p in site.people if p.locked}
    assert {row.user_name for row in rows} == {p.name for p in site.people} - locked
    for name, hers in groupby(sorted(rows, key=lambda r: (r.user_name, r.created_at)), key=lambda r: r.user_name):
        spans = [(row.created_at, row.ended_at) for row in hers]
        assert all(end is not None and end <= then for (_, end), (then, _) in pairwise(spans)), name
    assert ledger.recount() == []


def test_one_person_is_over_quota_by_her_own_rows(ledger: Ledger, site: people.Site) -> None:
    seed(ledger, site, people.subjects(site), NOW, idle_after_s=30)
    [quinn] = [p for p in site.people if p.over_quota]
    account = next(row.account_id for row in ledger.launches(limit=10_000) if row.user_name == quinn.name)
    hers = {
        limit.resource: limit.amount for limit in ledger.limits.list() if (limit.who, limit.name) == (Who.USER, account)
    }
    assert hers == {Resource.CORES: 2, Resource.MEMORY_BYTES: 2 << 30}, "what her server `analysis` takes"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with a ``jupyterhub-singleuser`` that answers; only its owner may enter it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    made = folder / "jupyterhub-singleuser"
    made.write_text("#!/bin/sh\necho 6.1.1\n")
    made.chmod(0o755)
    folder.chmod(0o700)
    return folder


@pytest.mark.needs("root")
async def test_an_account_that_cannot_run_a_server_is_named_before_the_url_is(site: people.Site, program: Path) -> None:
    with pytest.raises(ConfigError, match=rf"as {site.people[0].name} \(uid {site.people[0].uid}\): Permission denied"):
        await probe_accounts(site.people, site.gids, str(program))
    assert stat.S_IMODE(program.stat().st_mode) == 0o700, "it is said, and nobody's rights are changed"


async def test_a_program_that_fails_is_named_with_what_it_said(tmp_path: Path, program: Path) -> None:
    own = people.cast(tmp_path, shared_uid=(os.geteuid(), os.getegid()))
    await probe_accounts(own.people, own.gids, str(program))
    (program / "jupyterhub-singleuser").write_text("#!/bin/sh\necho it lacks a library >&2; exit 3\n")
    with pytest.raises(ConfigError, match=r"does not run as .*: it lacks a library"):
        await probe_accounts(own.people, own.gids, str(program))
