"""Numbers of our own: which ranges may be set, and when a person is given one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.accounts.allocator import Allocator
from daas_hub.accounts.resolve import Sources, resolve
from daas_hub.clients import nss
from daas_hub.core.account import AccountPolicy
from daas_hub.core.allocation import Kind
from daas_hub.core.errors import AccountRefused, ConfigError
from daas_hub.core.models import Account, Identity
from daas_hub.db.ledger import Ledger
from daas_hub.spawners.spawner import DaasSpawner

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = AccountPolicy()
ADA = Identity("https://id.test", "sub-1", "no-such-person-here", display_name="Ada L.")
WITH_UID = {"uid_number": 20001, "gid_number": 30001, "home": "/home/ada"}


@pytest.mark.parametrize(
    ("uids", "gids", "said"),
    [
        ([[70000, 79999]], [], "allocated_uids is set, DaasSpawner.allocated_gids is not"),
        ([], [[70000, 79999]], "allocated_gids is set, DaasSpawner.allocated_uids is not"),
        ([[500, 2000]], [[70000, 79999]], r"\[500, 2000\] is no range within 1000-4294967294"),
        ([[70000, 69999]], [[70000, 79999]], "is no range"),
        ([[70000, 79999]], [[0, 79999]], r"allocated_gids: \[0, 79999\] is no range within 1-"),
        ([[60000, 61000]], [[70000, 79999]], "overlaps the reserved range 60001-60577"),
        ([[2**31 - 10, 2**31]], [[70000, 79999]], "overlaps the reserved range 2147483648-"),
        ([[70000, 79999], [79999, 80000]], [[70000, 79999]], "overlaps another range, 70000-79999"),
    ],
)
def test_ranges_that_cannot_work_stop_the_hub(uids: list[Any], gids: list[Any], said: str) -> None:
    settings = DaasSpawner(config=Config(DaasSpawner={"allocated_uids": uids, "allocated_gids": gids}))
    with pytest.raises(ConfigError, match=said):
        settings.allocator_ranges()


def test_ranges_that_work() -> None:
    assert DaasSpawner().allocator_ranges() == {}
    both = Config(DaasSpawner={"allocated_uids": [[70000, 70009], [80000, 80000]], "allocated_gids": [[70000, 70009]]})
    assert DaasSpawner(config=both).allocator_ranges() == {
        Kind.UID: ((70000, 70009), (80000, 80000)),
        Kind.GID: ((70000, 70009),),
    }


@pytest.mark.parametrize("home", ["home/{name}", "/home", "/home/{user}/{name}", "/home/{name}/{name}"])
def test_a_fallback_home_that_is_not_each_persons_own(home: str) -> None:
    with pytest.raises(ConfigError, match=r"an absolute path with \{name\} once"):
        DaasSpawner(config=Config(DaasSpawner={"fallback_home": home}))


@pytest.fixture
def allocator(tmp_path: Path) -> Iterator[Allocator]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")

    async def run(fn: Any, *args: Any) -> Any:
        return await asyncio.to_thread(fn, *args)

    ranges = dict.fromkeys(Kind, ((70000, 70009),))
    yield Allocator(ledger.allocations, run, ranges, {"NSS": nss.has_number}, asyncio.Lock())
    ledger.close()


async def account(identity: Identity, allocator: Allocator, row: Account | None = None) -> Account:
    async def entered(_name: str) -> Account | None:
        return row

    home = f"/srv/{identity.name}"
    return await resolve(
        identity, sources=Sources(), admin_row=entered, policy=POLICY, now=NOW, allocator=allocator, home=home
    )


async def test_who_has_no_number_anywhere_is_given_one_and_keeps_it(allocator: Allocator) -> None:
    first = await account(ADA, allocator)
    assert (first.uid, first.gid, first.source, first.display_name) == (70000, 70000, "allocator", "Ada L.")
    assert first.home == "/srv/no-such-person-here"
    assert [(group.name, group.gid) for group in first.groups] == [("no-such-person-here", 70000)]
    assert await account(ADA, allocator) == first
    other = await account(replace(ADA, subject="sub-2", name="nobody-else-here"), allocator)
    assert (other.uid, other.gid) == (70001, 70001)


async def test_who_has_a_number_is_given_none(allocator: Allocator) -> None:
    known = await account(replace(ADA, attributes=WITH_UID), allocator)
    assert (known.uid, known.source) == (20001, "https://id.test")
    other = await account(replace(ADA, subject="sub-2", name="nobody-else-here"), allocator)
    assert other.uid == 70000
    row = Account("", "third-one-here", 20009, 30009, (), "/home/n", "/bin/sh", "admin", NOW)
    entered = await account(replace(ADA, subject="sub-3", name="third-one-here"), allocator, row)
    assert (entered.uid, entered.source) == (20009, "administrator")
    # Half a number is a fault of its source; it is not made whole here.
    with pytest.raises(AccountRefused, match="no gid in"):
        await account(replace(ADA, subject="sub-4", name="fourth-here", attributes={"uid_number": 20002}), allocator)


async def test_a_number_that_another_source_gives_later_must_be_the_same(allocator: Allocator) -> None:
    await account(ADA, allocator)
    with pytest.raises(AccountRefused, match=r"20001 by https://id\.test but 70000 by allocator"):
        await account(replace(ADA, attributes=WITH_UID), allocator)


async def test_nss_knows_the_numbers_of_this_machine() -> None:
    """Root and its group are in every passwd and group file; the other number is in none."""
    for kind in Kind:
        assert await nss.has_number(kind, 0)
        assert not await nss.has_number(kind, 70000)
