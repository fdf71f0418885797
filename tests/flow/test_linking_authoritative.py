"""An issuer that is believed which entry of the directory somebody is: linked without a password, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.servers.link_site import LinkSite
from tests.servers.slapd import PEOPLE
from tests.servers.visitor import location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
PROOF = "authoritative issuer"
NUMBERS = {"ada": "E-1001", "bob": "E-1002", "eve": "E-1003", "locked": "E-1004", "carl": "E-7", "dora": "E-7"}


class Believing(LinkSite):
    """The first provider is authoritative for ``employeeNumber``; the second is not."""

    def ways(self, secret: str) -> list[dict[str, Any]]:
        made = super().ways(secret)
        first = next(way for way in made if way["name"] == "first")
        first["settings"]["link_by"] = {"claim": "person", "directory": "site", "attribute": "employeeNumber"}
        return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Believing]:
    made = Believing(Path(tmp_path_factory.mktemp("believing")))
    await made.start()
    for name, number in NUMBERS.items():
        change = f"dn: {PEOPLE[name].dn}\nchangetype: modify\nadd: employeeNumber\nemployeeNumber: {number}\n"
        await made.slapd.modify(change)
    yield made
    await made.stop()


def person(site: LinkSite, subject: str, claim: Any) -> str:
    """Somebody of both providers, called as nobody of the directory is."""
    for provider in (site.first, site.second):
        provider.people[subject] = {"preferred_username": "somebody", "groups": [], "person": claim}
    return subject


async def test_she_is_linked_at_her_first_visit_and_told(site: Believing) -> None:
    who = site.visitor()
    assert location(await site.come(who, person(site, "a1", "E-1001"), then="/hub/home")) == "/hub/home"
    assert await site.user_of(who) == "ada"
    assert site.links("ada")[1:] == [(site.first.issuer, "a1", PROOF)]
    _, ada = await site.hub.api("GET", "users/ada")
    assert ada["groups"] == ["lab"]
    assert "can sign in to your account" in (await who.get("/hub/home")).body.decode()
    ledger = site.ledger()
    [row] = [row for row in ledger.audit.list() if row.action == "link"]
    ledger.close()
    assert (row.who, (row.new or {})["proof"]) == (f"issuer:{site.first.issuer}", PROOF)
    # The same again, also as a list of one, changes nothing.
    site.first.people["a1"]["person"] = ["E-1001"]
    assert location(await site.come(site.visitor(), "a1", then="/hub/home")) == "/hub/home"
    assert len(site.links("ada")) == 2


UNCLEAR: dict[str, Any] = {
    "none": None,
    "empty": "",
    "unknown": "E-9999",
    "other case": "e-1002",
    "blank": "E-1002 ",
    "inner blank": "E-1002\u00a0",
    "star": "E-100*",
    "any": "*",
    "filter": "E-1002)(uid=*",
    "two": ["E-1002", "E-1001"],
    "no entry": [],
    "number": 1002,
    "true": True,
    "nested": {"value": "E-1002"},
    "endless": "E" * 300,
    "control": "E-1002\n",
    "nul": "E-1002\x00",
    "locked": "E-1004",
}


@pytest.mark.parametrize("case", UNCLEAR)
async def test_what_names_nobody_clearly_leads_to_the_page(site: Believing, case: str) -> None:
    who = site.visitor()
    await site.arrive(who, person(site, f"u-{case}", UNCLEAR[case]))
    assert await site.user_of(who) == ""
    assert not [link for name in NUMBERS for link in site.links(name) if link[1] == f"u-{case}"]


async def test_another_issuer_is_not_believed(site: Believing) -> None:
    await site.arrive(site.visitor(), person(site, "b1", "E-1002"), way="second")
    assert not site.links("bob")[1:]


async def test_who_may_not_sign_in_is_not_linked(site: Believing) -> None:
    answer = await site.come(site.visitor(), person(site, "e1", "E-1003"))
    assert answer.code == 403
    assert "not open to you" in answer.body.decode()
    assert site.links("eve") == []


async def test_a_number_of_two_people_is_nobodys(site: Believing) -> None:
    answer = await site.come(site.visitor(), person(site, "c1", "E-7"))
    assert answer.code == 503
    assert site.links("carl") == site.links("dora") == []
    assert "2 entries have this employeeNumber" in site.hub.log_text()


async def test_an_identity_that_is_linked_stays_where_it_is(site: Believing) -> None:
    """A claim that changes, at the provider or by somebody there, turns nobody into another."""
    person(site, "m1", None)
    assert location(await site.link(site.visitor(), "m1", "emil", then="/hub/home")) == "/hub/home"
    who = site.visitor()
    await site.come(who, person(site, "m1", "E-1001"), then="/hub/home")
    assert await site.user_of(who) == "emil"
    assert "m1" not in [subject for _, subject, _ in site.links("ada")]


async def test_what_was_unlinked_is_linked_by_a_proof_of_both_only(site: Believing) -> None:
    who = site.visitor()
    await site.come(who, person(site, "n1", "E-1002"), then="/hub/home")
    assert await site.user_of(who) == "bob"
    ledger = site.ledger()
    link = ledger.links.find((site.first.issuer, "n1"))
    assert link is not None
    ledger.links.remove(link.id, by="user:bob", now=link.made_at)
    ledger.close()
    again = site.visitor()
    await site.arrive(again, "n1")
    assert not site.links("bob")[1:]
    assert location(await site.link(site.visitor(), "n1", "bob", then="/hub/home")) == "/hub/home"
    assert site.links("bob")[1:] == [(site.first.issuer, "n1", "password")]
    assert location(await site.come(site.visitor(), "n1", then="/hub/home")) == "/hub/home"
