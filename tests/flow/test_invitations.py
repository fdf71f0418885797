"""An administrator's invitation: whoever brings the code is linked to the account it was made for, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from tornado.httpclient import HTTPResponse

from daas_hub.db.invites import LASTS
from tests.servers.link_site import LinkSite
from tests.servers.visitor import Visitor, location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinkSite]:
    made = await LinkSite(Path(tmp_path_factory.mktemp("invites"))).start()
    for name in ("ada", "bob"):
        # A link of hers lets the ledger know the account.
        made.second.people[f"own-{name}"] = {"groups": []}
        assert location(await made.link(made.visitor(), f"own-{name}", name, way="second", then="/hub/home"))
    yield made
    await made.stop()


def invite(site: LinkSite, name: str, code: str, *, age: timedelta = timedelta(0)) -> None:
    ledger = site.ledger()
    (account,) = [account for account in ledger.accounts.list() if account.name == name]
    ledger.invites.make(code, account.id, by="admin:boss", now=datetime.now(UTC) - age, why="new badge")
    ledger.close()


async def arrives(site: LinkSite, person: str) -> Visitor:
    site.first.people.setdefault(person, {"groups": []})
    who = site.visitor()
    await site.arrive(who, person, then="/hub/home")
    return who


async def bring(who: Visitor, code: str, **more: str) -> HTTPResponse:
    return await who.post("/hub/daas/link/code", {"code": code}, **more)


def came(site: LinkSite, name: str) -> list[str]:
    return [subject for issuer, subject, proof in site.links(name) if issuer == site.first.issuer]


async def test_who_brings_the_code_is_in_without_a_password(site: LinkSite) -> None:
    invite(site, "ada", "code-of-ada")
    who = await arrives(site, "i1")
    away = location(await bring(who, "  code-of-ada \n"))
    # Not before she is back from her provider.
    assert came(site, "ada") == []
    site.first.person = "i1"
    assert location(await who.get(site.first.approve(away))) == "/hub/home"
    assert await site.user_of(who) == "ada"
    assert site.links("ada")[-1] == (site.first.issuer, "i1", "invitation")
    # Used: it is nothing to the next one.
    other = await arrives(site, "i2")
    answer = await bring(other, "code-of-ada")
    assert answer.code == 403
    assert "This code is not good" in answer.body.decode()
    assert b"code-of-ada" not in b"".join(file.read_bytes() for file in site.root.glob("ledger.sqlite*"))


async def test_two_browsers_with_one_code(site: LinkSite) -> None:
    invite(site, "bob", "code-of-bob")
    browsers = {person: await arrives(site, person) for person in ("r1", "r2", "r3")}
    back = {}
    for person, who in browsers.items():
        away = location(await bring(who, "code-of-bob"))
        site.first.person = person
        back[person] = site.first.approve(away)
    answers = await asyncio.gather(*(browsers[person].get(url) for person, url in back.items()))
    assert sorted(answer.code for answer in answers) == [302, 409, 409]
    (winner,) = [person for person, answer in zip(back, answers, strict=True) if answer.code == 302]
    assert came(site, "bob") == [winner]


async def test_what_refuses_a_code_spends_nothing(site: LinkSite) -> None:
    invite(site, "ada", "code-again")
    invite(site, "ada", "code-too-old", age=LASTS)
    before = site.links("ada")
    assert (await bring(await arrives(site, "x1"), "code-too-old")).code == 403
    assert (await bring(await arrives(site, "x2"), "code-again", xsrf="x" * 60)).code == 403
    assert (await bring(site.visitor(), "code-again")).code in (400, 403)
    # Another one comes back than who brought it.
    who = await arrives(site, "x3")
    away = location(await bring(who, "code-again"))
    site.first.people["x4"] = {"groups": []}
    site.first.person = "x4"
    assert (await who.get(site.first.approve(away))).code == 409
    # In another browser the trip to the provider is nobody's.
    assert (await site.visitor().get(site.first.approve(away))).code == 400
    assert site.links("ada") == before
    who = await arrives(site, "x5")
    away = location(await bring(who, "code-again"))
    site.first.person = "x5"
    assert location(await who.get(site.first.approve(away))) == "/hub/home"


async def test_codes_cannot_be_guessed(site: LinkSite) -> None:
    invite(site, "ada", "code-to-guess")
    who = await arrives(site, "g1")
    assert [(await bring(who, f"guess {n}")).code for n in range(5)] == [403] * 5
    # Now the right one as well, from another browser of hers too; nobody else is held up.
    assert (await bring(who, "code-to-guess")).code == 429
    assert (await bring(await arrives(site, "g1"), "code-to-guess")).code == 429
    assert (await bring(await arrives(site, "g2"), "code-to-guess")).code == 302
