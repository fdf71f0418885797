"""The ledger's contract about the allocator: each number and name once, whoever asks at the same moment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text
from sqlalchemy.exc import DBAPIError

from daas_hub.accounts.allocator import Allocator, Known
from daas_hub.core.account import Claim
from daas_hub.core.allocation import Kind, Ranges
from daas_hub.core.errors import AccountRefused, AccountUnresolved
from daas_hub.core.models import AccountGroup, Identity
from daas_hub.db.ledger import Ledger
from daas_hub.db.schema import account_uid, accounts, links

from .ledger import Opened
from .ledger_samples import NOW, account

CLONE = Path(__file__).resolve().parents[2]
ISSUER = "https://id.test"
RANGES: dict[Kind, Ranges] = {Kind.UID: ((70000, 70002), (80000, 80001)), Kind.GID: ((90000, 90009),)}


def person(name: str, subject: str = "") -> Identity:
    return Identity(ISSUER, subject or f"sub-{name}", name)


def allocator(ledger: Ledger, ranges: dict[Kind, Ranges] | None = None, **known: Known) -> Allocator:
    async def run(fn: Any, *args: Any) -> Any:
        return await asyncio.to_thread(fn, *args)

    return Allocator(ledger.allocations, run, ranges or RANGES, known, asyncio.Lock())


GIVER = """
import asyncio, sys
from daas_hub.core.allocation import Kind
from daas_hub.db.ledger import Ledger
from tests.contracts.ledger_allocations import allocator, person
from tests.contracts.ledger_samples import NOW

url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ledger = Ledger.open(url, busy_timeout_s=30)
ours = allocator(ledger, {Kind.UID: ((70000, 70999),), Kind.GID: ((70000, 70999),)})
print("ready", flush=True)
sys.stdin.readline()

async def main():
    claims = await asyncio.gather(*(ours.give(person(f"p{n}"), NOW) for n in range(first, last)))
    print(*(f"{claim.name}:{claim.uid}:{claim.gid}" for claim in claims))

asyncio.run(main())
ledger.close()
"""


class AllocationContract(Opened):
    """Nothing that was given away is given away again."""

    async def test_the_next_numbers_in_the_order_of_the_ranges(self, ledger: Ledger) -> None:
        ours = allocator(ledger)
        claims = [await ours.give(person(f"p{n}"), NOW) for n in range(5)]
        assert [claim.uid for claim in claims] == [70000, 70001, 70002, 80000, 80001]
        assert [claim.gid for claim in claims] == [90000, 90001, 90002, 90003, 90004]
        assert claims[0] == Claim("allocator", "p0", 70000, 90000, (AccountGroup("p0", 90000),))
        # Whoever has numbers keeps them, also when all are gone.
        assert await ours.give(person("p3"), NOW) == claims[3] == await ours.given(person("p3"), NOW)
        with pytest.raises(AccountUnresolved, match=r"70000-70002, 80000-80001.*administrator.*allocated_uids"):
            await ours.give(person("p5"), NOW)
        assert await ours.given(person("p5"), NOW) is None

    async def test_numbers_that_others_know_are_never_given(self, ledger: Ledger) -> None:
        asked: list[tuple[Kind, int]] = []

        async def nss(kind: Kind, number: int) -> bool:
            asked.append((kind, number))
            return number in {70000, 70001, 90000}

        claim = await allocator(ledger, NSS=nss).give(person("ada"), NOW)
        assert (claim.uid, claim.gid) == (70002, 90001)
        # Gone for good, also where that source does not know them any more.
        claim = await allocator(ledger).give(person("bob"), NOW)
        assert (claim.uid, claim.gid) == (80000, 90002)
        assert len(asked) == len(set(asked))

    async def test_a_source_that_does_not_answer_stops_it(self, ledger: Ledger) -> None:
        async def silent(_kind: Kind, _number: int) -> bool:
            raise AccountUnresolved("NSS did not answer.")

        with pytest.raises(AccountUnresolved, match="did not answer"):
            await allocator(ledger, NSS=silent).give(person("ada"), NOW)
        assert (await allocator(ledger).give(person("bob"), NOW)).uid == 70000

    async def test_numbers_that_the_ledger_knows_of_are_not_given(self, ledger: Ledger) -> None:
        known = replace(account(name="old"), uid=70000, gid=90001)
        ledger.accounts.upsert(known, (ISSUER, "old"), "old", NOW)
        ledger.accounts.set_row(replace(account(name="row"), uid=70001, gid=90000), by="admin:root", now=NOW)
        claim = await allocator(ledger).give(person("ada"), NOW)
        assert (claim.uid, claim.gid) == (70002, 90002)

    async def test_a_deleted_account_leaves_its_numbers_and_its_name_behind(self, ledger: Ledger) -> None:
        ours = allocator(ledger)
        claim = await ours.give(person("ada"), NOW)
        ledger.accounts.upsert(
            replace(account(name="ada"), uid=claim.uid or 0, gid=claim.gid or 0), (ISSUER, "sub-ada"), "ada", NOW
        )
        for table in (account_uid, links, accounts):
            ledger._db.write(lambda c, table=table: c.execute(delete(table)) and None)
        with pytest.raises(AccountRefused, match="name ada is or was another account's"):
            await ours.give(person("ada", "another-ada"), NOW)
        assert (await ours.give(person("bob"), NOW)).uid == 70001
        assert await ours.given(person("ada"), NOW) == claim

    async def test_a_name_of_an_account_with_numbers_from_elsewhere_is_taken(self, ledger: Ledger) -> None:
        ledger.accounts.upsert(account(name="ada"), ("ldap:site", "uuid"), "ada", NOW)
        with pytest.raises(AccountRefused, match="name ada is or was another account's"):
            await allocator(ledger).give(person("ada"), NOW)
        assert (await allocator(ledger).give(person("bob"), NOW)).uid == 70000, "the refusal cost a number"

    async def test_each_name_that_a_person_ever_had_is_hers(self, ledger: Ledger) -> None:
        ours = allocator(ledger)
        claim = await ours.give(person("ada"), NOW)
        renamed = await ours.given(person("lovelace", "sub-ada"), NOW)
        assert renamed is not None
        assert (renamed.name, renamed.uid, renamed.gid) == ("lovelace", claim.uid, claim.gid)
        for name in ("ada", "lovelace"):
            with pytest.raises(AccountRefused, match=f"name {name} is or was"):
                await ours.give(person(name, "another"), NOW)
        await ours.give(person("bob"), NOW)
        with pytest.raises(AccountRefused, match="name lovelace is or was"):
            await ours.given(person("lovelace", "sub-bob"), NOW)

    async def test_a_ledger_that_was_lost_gives_back_what_accounts_ran_as(self, ledger: Ledger) -> None:
        ran = replace(account(name="ada"), uid=70002, gid=90005, source="allocator")
        ledger.accounts.upsert(ran, (ISSUER, "sub-ada"), "ada", NOW)
        claim = await allocator(ledger).give(person("ada"), NOW)
        assert (claim.uid, claim.gid) == (70002, 90005)

    @pytest.mark.parametrize("table", ["allocated_ids", "allocated_names"])
    async def test_rows_cannot_be_changed_or_deleted(self, ledger: Ledger, table: str) -> None:
        await allocator(ledger).give(person("ada"), NOW)
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET issuer = 'x'"):
            with pytest.raises(DBAPIError, match="append-only"):
                ledger._db.write(lambda c, statement=statement: c.execute(text(statement)) and None)

    def test_two_processes_at_once_give_distinct_numbers(self, ledger: Ledger, url: str) -> None:
        """People whom two processes ask for, some of them both: each has one pair, nobody another's."""
        pipe = subprocess.PIPE
        givers = [
            subprocess.Popen([sys.executable, "-c", GIVER, url, *part], stdin=pipe, stdout=pipe, text=True, cwd=CLONE)
            for part in (("0", "15"), ("8", "23"))
        ]
        for giver in givers:
            assert giver.stdout is not None
            assert giver.stdout.readline() == "ready\n"
        for giver in givers:
            assert giver.stdin is not None
            giver.stdin.write("go\n")
            giver.stdin.flush()
        said = {each for giver in givers for each in giver.communicate(timeout=50)[0].split()}
        assert len(said) == 23
        people, uids, gids = zip(*(each.split(":") for each in said), strict=True)
        assert [len(set(column)) for column in (people, uids, gids)] == [23, 23, 23]
        assert set(map(int, uids)) == set(range(70000, 70023)), "numbers were left out"
