"""A person takes one of her ways in away: by proof of both sides, and then it opens nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPResponse

from tests.servers.link_site import LinkSite
from tests.servers.visitor import Visitor, location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinkSite]:
    made = await LinkSite(Path(tmp_path_factory.mktemp("unlinks"))).start()
    yield made
    await made.stop()


async def linked(site: LinkSite, person: str, name: str) -> tuple[Visitor, str]:
    """Her browser, signed in by a link that was just made, and the page that takes it away."""
    site.first.people.setdefault(person, {"groups": []})
    site.first.extra_claims = {"auth_time": int(time.time())}
    who = site.visitor()
    assert location(await site.link(who, person, name, then="/hub/home")) == "/hub/home"
    return who, page_of(site, name, person)


def page_of(site: LinkSite, name: str, person: str) -> str:
    ledger = site.ledger()
    try:
        accounts = [account for account in ledger.accounts.list() if account.name == name]
        (found,) = [link for each in accounts for link in ledger.links.of(each.id) if link.subject == person]
        return f"/hub/daas/unlink/{found.id}"
    finally:
        ledger.close()


def actions(site: LinkSite, name: str) -> list[tuple[str, str]]:
    ledger = site.ledger()
    try:
        (account,) = [account for account in ledger.accounts.list() if account.name == name]
        return [(row.who, row.action) for row in ledger.audit.list(subject=f"account:{account.id}")]
    finally:
        ledger.close()


async def prove(who: Visitor, page: str, password: str) -> str:
    """To the provider; she must prove there anew who she is."""
    assert (await who.get(page)).code == 200
    away = location(await who.post(page, {"password": password}))
    assert "prompt=login" in away
    assert "max_age=0" in away
    return away


async def test_she_unlinks_and_every_session_ends(site: LinkSite) -> None:
    who, page = await linked(site, "a1", "ada")
    by_password = site.visitor()
    assert location(await site.password(by_password, "ada")) == "/hub/home"
    again = site.visitor()
    assert location(await site.come(again, "a1", then="/hub/home")) == "/hub/home"
    away = await prove(by_password, page, "ada-secret")
    site.first.person = "a1"
    answer = await by_password.get(site.first.approve(away))
    assert answer.code == 200
    assert "opens your account no longer" in answer.body.decode()
    assert [await site.user_of(browser) for browser in (who, by_password, again)] == ["", "", ""]
    # That way she is nobody's; the other way is hers as before, and tells her.
    assert location(await site.come(site.visitor(), "a1")) == "/hub/daas/link"
    assert location(await site.password(by_password, "ada")) == "/hub/home"
    assert "was unlinked from your account" in (await by_password.get("/hub/home")).body.decode()
    assert actions(site, "ada")[0] == ("user:ada", "unlink")
    # Once more: the state is spent; the page is gone.
    assert (await by_password.get(site.first.approve(away))).code == 400
    assert (await by_password.get(page)).code == 404


async def test_relinked_by_another_person_it_is_hers(site: LinkSite) -> None:
    who, page = await linked(site, "b1", "bob")
    site.first.person = "b1"
    assert (await who.get(site.first.approve(await prove(who, page, "bob-secret")))).code == 200
    other = site.visitor()
    assert location(await site.link(other, "b1", "dora", then="/hub/home")) == "/hub/home"
    assert await site.user_of(other) == "dora"
    # The old page's number is nothing any more, and the new link is not bob's.
    assert location(await site.password(who, "bob")) == "/hub/home"
    assert (await who.get(page)).code == 404
    assert (await who.get(page_of(site, "dora", "b1"))).code == 404


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ("password", 403),
        ("somebody else's password", 403),
        ("token of the form", 403),
        ("other person at the provider", 409),
        ("not proved anew", 403),
        ("no auth_time", 403),
        ("somebody else's link", 404),
        ("the directory entry itself", 404),
        ("nobody signed in", 403),
        ("other browser", 400),
    ],
)
async def test_with_one_side_missing_nothing_changes(site: LinkSite, wrong: str, status: int) -> None:
    person = f"c-{wrong}"
    who, page = await linked(site, person, "emil")
    before = site.links("emil")
    own = actions(site, "emil")
    site.first.person = person
    try:
        answer = await attempt(site, who, page, wrong)
        assert answer.code == status, answer.body.decode()
    finally:
        site.first.people["other"] = {"groups": []}
    assert site.links("emil") == before
    assert actions(site, "emil") == own
    assert location(await site.come(site.visitor(), person, then="/hub/home")) == "/hub/home"
    # Room for the next one: an account has a bounded number of links.
    ledger = site.ledger()
    link = int(page.rsplit("/", 1)[1])
    ledger.links.remove(link, by="admin:boss", now=ledger.links.find((site.first.issuer, person)).made_at)
    ledger.close()


async def attempt(site: LinkSite, who: Visitor, page: str, wrong: str) -> HTTPResponse:
    """What refuses it."""
    password, xsrf = "emil-secret", None
    if wrong == "nobody signed in":
        who = site.visitor()
        await who.get("/hub/login")
    if wrong == "the directory entry itself":
        ledger = site.ledger()
        (account,) = [account for account in ledger.accounts.list() if account.name == "emil"]
        page = f"/hub/daas/unlink/{ledger.links.of(account.id)[0].id}"
        ledger.close()
    if wrong == "somebody else's link":
        who = site.visitor()
        assert location(await site.password(who, "carl")) == "/hub/home"
        password = "carl-secret"
    if wrong == "password":
        password = "not it"
    if wrong == "somebody else's password":
        password = "dora-secret"
    if wrong == "token of the form":
        xsrf = "x" * 60
    await who.get(page)
    answer = await who.post(page, {"password": password}, xsrf=xsrf)
    if answer.code != 302:
        return answer
    away = location(answer)
    if wrong == "not proved anew":
        site.first.extra_claims = {"auth_time": int(time.time()) - 3600}
    if wrong == "no auth_time":
        site.first.extra_claims = {}
    if wrong == "other person at the provider":
        site.first.people["other"] = {"groups": []}
        site.first.person = "other"
    if wrong == "other browser":
        who = site.visitor()
        assert location(await site.password(who, "emil")) == "/hub/home"
    return await who.get(site.first.approve(away))
