"""Two ways, one account, on a real directory and a real hub: linked by proof of both, gone with either."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.servers.link_site import LOCAL, LOCAL_PASSWORD, LinkSite
from tests.servers.slapd import BASE, PEOPLE
from tests.servers.visitor import location

RENAME = f"dn: uid={{}},ou=people,{BASE}\nchangetype: modrdn\nnewrdn: uid={{}}\ndeleteoldrdn: 1\n"
pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinkSite]:
    made = await LinkSite(Path(tmp_path_factory.mktemp("links"))).start()
    yield made
    await made.stop()


async def users(site: LinkSite) -> dict[str, list[str]]:
    _, found = await site.hub.api("GET", "users")
    return {user["name"]: sorted(user["groups"]) for user in found}


async def test_one_person_by_two_ways(site: LinkSite) -> None:
    who = site.visitor()
    await site.arrive(who, "1", then="/hub/token")
    assert "ada" not in await users(site)
    assert location(await site.link(who, "1", "ada", then="/hub/token")) == "/hub/token"
    assert await site.user_of(who) == "ada"
    # Groups are the directory's; the provider gave none.
    assert (await users(site))["ada"] == ["lab"]
    assert site.links("ada")[1:] == [(site.first.issuer, "1", "password")]
    # From now on either way leads there.
    again, form = site.visitor(), site.visitor()
    assert location(await site.come(again, "1", then="/hub/home")) == "/hub/home"
    assert location(await site.password(form, "ada")) == "/hub/home"
    assert (await site.user_of(again), await site.user_of(form)) == ("ada", "ada")
    assert len(site.links("ada")) == 2
    # Her home page says who comes in now.
    home = (await form.get("/hub/home")).body.decode()
    assert f"ada &lt;ada@site.test&gt; of {site.first.issuer} can sign in to your account" in home


async def test_a_hub_whose_ways_let_people_in_warns_of_nothing(site: LinkSite) -> None:
    assert "No allow config found" not in site.hub.log_text()
    assert "its lists let nobody in" not in site.hub.log_text()


async def test_a_page_that_is_too_old_says_so_once(site: LinkSite) -> None:
    answer = await site.visitor().get("/hub/daas/link")
    assert (answer.code, answer.body.count(b"Nothing was changed")) == (400, 1)


async def test_groups_and_rights_are_the_directorys_each_time(site: LinkSite) -> None:
    who = site.visitor()
    site.first.people["3"]["groups"] = ["operators"]
    await site.link(who, "3", "bob", then="/hub/home")
    _, bob = await site.hub.api("GET", "users/bob")
    assert (bob["groups"], bob["admin"]) == (["lab"], False)
    value = next(line for line in site.slapd._ldif().splitlines() if line.startswith("member") and "boss" in line)
    attribute, _, text = value.partition(": ")
    change = f"dn: cn=operators,ou=groups,{BASE}\nchangetype: modify\n%s: {attribute}\n{attribute}: %s\n"
    await site.slapd.modify(change % ("add", text.replace("boss", "bob")))
    await site.come(site.visitor(), "3")
    _, bob = await site.hub.api("GET", "users/bob")
    assert (bob["groups"], bob["admin"]) == (["lab", "operators"], True)
    await site.slapd.modify(change % ("delete", text.replace("boss", "bob")))
    await site.come(site.visitor(), "3")
    _, bob = await site.hub.api("GET", "users/bob")
    assert (bob["groups"], bob["admin"]) == (["lab"], False)


@pytest.mark.parametrize("other", ["password", "second"])
async def test_a_provider_ends_its_sign_ins_also_where_the_last_one_was_by_another_way(
    site: LinkSite, other: str
) -> None:
    person = f"d-{other}"
    site.first.people[person] = site.second.people[person] = {"groups": []}
    lost, last = site.visitor(), site.visitor()
    assert location(await site.link(lost, person, "dora", then="/hub/home")) == "/hub/home"
    if other == "password":
        assert location(await site.password(last, "dora")) == "/hub/home"
    else:
        assert location(await site.link(last, person, "dora", way="second", then="/hub/home")) == "/hub/home"
    _, made = await site.hub.api("POST", "users/dora/tokens", {"note": "of either browser"})
    # A token of that provider about somebody whom no link of its own names ends nothing.
    assert await tell(site, "nobody") == 200
    assert [await site.user_of(browser) for browser in (lost, last)] == ["dora", "dora"]
    assert await tell(site, person) == 200
    assert [await site.user_of(browser) for browser in (lost, last)] == ["", ""]
    assert (await site.hub.api("GET", "user", token=made["token"]))[0] == 403
    assert location(await site.password(last, "dora")) == "/hub/home"


async def tell(site: LinkSite, person: str) -> int:
    """The first provider says that a sign-in has ended."""
    body = f"logout_token={site.first.logout_token(person)}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return (await site.hub.http("POST", f"{site.hub.hub_url}/hub/oidc/first/logout", body, kind))[0]


async def test_a_start_of_whom_her_provider_has_ended_leads_to_a_sign_in(site: LinkSite) -> None:
    site.first.people["e1"] = {"groups": []}
    who = site.visitor()
    assert location(await site.link(who, "e1", "emil", then="/hub/home")) == "/hub/home"
    for grant in site.first.refresh_tokens.values():
        grant.ended |= grant.sub == "e1"
    assert (await who.get("/hub/spawn")).code == 200
    answer = await who.post("/hub/spawn", {"profile": "basic"})
    assert answer.code == 403
    assert "login again" in answer.body.decode()
    assert "AttributeError" not in site.hub.log_text()


async def test_who_gets_another_ones_name_in_the_directory_stays_who_she_is(site: LinkSite) -> None:
    for person, name in (("s1", "dora"), ("s2", "emil")):
        site.first.people[person] = {"groups": []}
        assert location(await site.link(site.visitor(), person, name, then="/hub/home")) == "/hub/home"
    try:
        for old, new in (("dora", "swap"), ("emil", "dora"), ("swap", "emil")):
            await site.slapd.modify(RENAME.format(old, new))
        for person, user, called in (("s1", "dora", "emil"), ("s2", "emil", "dora")):
            by_link, by_password = site.visitor(), site.visitor()
            assert location(await site.come(by_link, person, then="/hub/home")) == "/hub/home"
            assert location(await site.password(by_password, called, f"{user}-secret")) == "/hub/home"
            assert [await site.user_of(browser) for browser in (by_link, by_password)] == [user, user]
    finally:
        for old, new in (("dora", "swap"), ("emil", "dora"), ("swap", "emil")):
            await site.slapd.modify(RENAME.format(old, new))


async def test_who_is_gone_from_the_directory_comes_by_no_way(site: LinkSite) -> None:
    who = site.visitor()
    assert location(await site.link(who, "4", "carl", way="second", then="/hub/home")) == "/hub/home"
    entry = site.slapd._ldif().split(f"dn: {PEOPLE['carl'].dn}\n")[1].split("\n\n")[0]
    await site.slapd.modify(f"dn: {PEOPLE['carl'].dn}\nchangetype: delete\n")
    answer = await site.come(site.visitor(), "4", way="second")
    assert answer.code == 403
    assert "not active any more" in answer.body.decode()
    # Another person of the same name is another one: neither the old link nor the old user is hers.
    await site.slapd.add(f"dn: {PEOPLE['carl'].dn}\n{entry}\n")
    assert (await site.come(site.visitor(), "4", way="second")).code == 403
    refused = await site.password(site.visitor(), "carl")
    assert refused.code == 409
    assert "somebody else has this name" in refused.body.decode()


async def test_without_any_directory_or_provider_somebody_gets_in(site: LinkSite) -> None:
    await site.slapd.stop()
    site.first.faults = {"token": 503, ".well-known/openid-configuration": 503}
    try:
        assert (await site.password(site.visitor(), "ada")).code == 503
        assert (await site.password(site.visitor(), LOCAL, "a wrong password")).code == 403
        who = site.visitor()
        assert location(await site.password(who, LOCAL, LOCAL_PASSWORD)) == "/hub/home"
        assert (await who.get("/hub/admin")).code == 200
    finally:
        site.first.faults = {}
        await site.slapd.run()
    assert "Break-glass sign-in as glass from 127.0.0.1: in" in site.hub.log_text()
    ledger = site.ledger()
    rows = [(row.who, row.action) for row in ledger.audit.list(subject="address:127.0.0.1")]
    ledger.close()
    assert rows == [("local:glass", "break_glass_in"), ("local:glass", "break_glass_refused")]
    assert LOCAL_PASSWORD not in site.hub.log_text()
    # No server runs as her, and a file that others may read opens nothing.
    status, _ = await site.hub.api("POST", f"users/{LOCAL}/server")
    assert status == 403
    os.chmod(site.glass, 0o644)
    assert (await site.password(site.visitor(), LOCAL, LOCAL_PASSWORD)).code == 403
    os.chmod(site.glass, 0o600)
    for _ in range(4):
        assert (await site.password(site.visitor(), LOCAL, "a wrong password")).code == 403
    assert (await site.password(site.visitor(), LOCAL, LOCAL_PASSWORD)).code == 429
