"""An administrator limits people who have never started anything: by the account, whoever has which name."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from daas_hub.core.models import Resource, Who
from daas_hub.services.console.access import QUOTA_WRITE
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site(cmd=list(program(reachable_python())))
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("boss"))
        yield made
    finally:
        asyncio.run(made.stop())


async def set_limit(site: Site, name: str, amount: float) -> tuple[int, Any]:
    """As boss, by REST, with a token that may set limits and nothing else."""
    scopes = ["access:services!service=daas", QUOTA_WRITE]
    status, made = await site.hub.api("POST", "users/boss/tokens", {"scopes": scopes})
    assert status == 201, made
    body = {"who": "user", "name": name, "resource": "servers", "amount": amount, "note": "before her first start"}
    headers = {"Authorization": f"token {made['token']}"}
    return await site.hub.http("POST", f"{site.hub.url}/services/daas/api/v1/limits", body, headers)


def stored(site: Site) -> tuple[dict[str, tuple[str, int]], dict[str, float]]:
    """Accounts (id → the user who has it, uid) and the limits of single people (account's id → amount)."""
    ledger = site.ledger()
    try:
        accounts = {account.id: (account.user_name, account.uid) for account in ledger.accounts.list()}
        rules = [limit for limit in ledger.limits.list() if limit.who is Who.USER]
    finally:
        ledger.close()
    assert {rule.resource for rule in rules} <= {Resource.SERVERS}
    return accounts, {rule.name: rule.amount for rule in rules}


async def test_a_limit_from_before_the_first_sign_in_holds_at_the_first_start(site: Site) -> None:
    status, made = await set_limit(site, "carl", 0)
    assert (status, made["name"]) == (200, "carl"), (made, site.hub.log_text()[-3000:])
    accounts, limits = stored(site)
    [(account_id, (user_name, uid))] = accounts.items()
    assert (user_name, uid, limits) == ("carl", site.person("carl").uid, {account_id: 0})
    assert (await site.hub.api("GET", "users/carl"))[0] == 404  # the hub has nobody of this name yet
    with closing(sqlite3.connect(site.state / "ledger.sqlite")) as db:
        # Nobody has proved anything yet, and the ledger does not say so.
        assert db.execute("SELECT account_id, proof FROM links").fetchall() == [(account_id, "directory entry")]
    await site.sign_in("carl")
    status, refused = await site.hub.start_server("carl")
    assert status == 403, refused
    assert "your own limit allows no servers" in refused["message"]
    assert (await set_limit(site, "carl", 1))[0] == 200
    status, started = await site.hub.start_server("carl")
    assert status in (201, 202), started
    # Her first start found the account that was recorded for her, and made no second one.
    assert stored(site) == (accounts, {account_id: 1})
    assert [row.account_id for row in site.launches()] == [account_id]


async def test_who_signed_in_is_who_she_was_then_whatever_she_is_called(site: Site) -> None:
    await site.sign_in("bob")
    status, answer = await site.hub.api("PATCH", "users/bob", {"name": "robert"})
    assert status == 200, answer
    status, made = await set_limit(site, "robert", 2)
    assert (status, made["name"]) == (200, "robert"), made
    accounts, limits = stored(site)
    [account_id] = [key for key, (user_name, _) in accounts.items() if user_name == "robert"]
    assert accounts[account_id] == ("robert", site.person("bob").uid)
    assert limits[account_id] == 2
    # The directory's bob is robert here: whoever gets the name bob one day is not limited by mistake.
    status, refused = await set_limit(site, "bob", 3)
    assert (status, refused["field"]) == (400, "name")
    assert "is the user 'robert' here" in refused["message"]
    assert stored(site) == (accounts, limits)


async def test_a_name_in_other_letters_is_the_same_person(site: Site) -> None:
    status, made = await set_limit(site, "ADA", 4)
    assert (status, made["name"]) == (200, "ada"), made
    again = await set_limit(site, "ada", 5)
    assert (again[0], again[1]["id"]) == (200, made["id"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody-at-all", "has no active one of this name; allowed are users of this hub and login names"),
        ("locked", "has no active one of this name"),
        ("rooted", "uid 0"),
        ("../ada", "has no active one of this name"),
        ("*", "has no active one of this name"),
        ("a\u00fc/x", "has no active one of this name"),
    ],
)
async def test_who_cannot_be_found_is_refused_and_nothing_is_kept(site: Site, name: str, words: str) -> None:
    before = stored(site)
    status, refused = await set_limit(site, name, 1)
    assert (status, refused["field"]) == (400, "name"), refused
    assert words in refused["message"]
    assert stored(site) == before


async def test_a_wrong_amount_asks_nobody(site: Site) -> None:
    before = stored(site)
    status, refused = await set_limit(site, "eve", 1.5)
    assert (status, refused["field"]) == (400, "amount")
    assert stored(site) == before


async def test_only_the_console_may_ask_the_hub(site: Site) -> None:
    before = stored(site)
    status, made = await site.hub.api("POST", "users/boss/tokens", {})
    assert status == 201
    for token in (site.hub.token, made["token"]):
        status, refused = await site.hub.api("POST", "daas/accounts/eve", {}, token=token)
        assert (status, "custom:daas:hub" in refused["message"]) == (403, True)
    assert (await site.hub.api("POST", "daas/accounts/eve", {}, token="0" * 32))[0] == 403
    assert stored(site) == before
    assert {scope for name, scope in site.hub.roles_of_services() if name == "daas"} == {"custom:daas:hub"}


async def test_without_the_directory_nobody_is_unknown(site: Site) -> None:
    before = stored(site)
    await site.slapd.stop()
    try:
        status, refused = await set_limit(site, "eve", 1)
        assert (status, refused["reason"]) == (503, "hub_unavailable"), refused
        assert "directory" in refused["message"]
        assert stored(site) == before
        # Who is known here needs no directory.
        assert (await set_limit(site, "robert", 6))[0] == 200
    finally:
        await site.slapd.run()
