"""Attacks on linking, on a real directory and a real hub: each opens nothing and changes nothing.

``dora`` is the victim, ``emil`` the attacker; both have passwords and may sign in. Every attack has identities of its
own at the provider: ``mine`` is the attacker's, ``hers`` the victim's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio
from tornado.web import create_signed_value, decode_signed_value

from daas_hub.auth.link_cookie import COOKIE, LASTS_S
from tests.servers.forgeries import FORGERIES
from tests.servers.link_site import LOCAL, LinkSite
from tests.servers.slapd import BASE
from tests.servers.visitor import Visitor, location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

WHERE = (COOKIE, "/hub/daas/")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LinkSite]:
    made = await LinkSite(Path(tmp_path_factory.mktemp("attacks"))).start()
    yield made
    await made.stop()


class Scene:
    """Two browsers, two identities."""

    def __init__(self, site: LinkSite, name: str) -> None:
        self.site = site
        self.hers, self.mine = f"hers-{name}", f"mine-{name}"
        for person, called in ((self.hers, "dora"), (self.mine, "emil")):
            more = {"email": f"{called}@site.test", "email_verified": True}
            site.first.people[person] = {"preferred_username": called, "groups": [], **more}
            site.second.people[person] = site.first.people[person]
        self.victim, self.attacker = site.visitor(), site.visitor()

    def approve(self, away: str, person: str) -> str:
        self.site.first.person = person
        return self.site.first.approve(away)

    def secret(self) -> bytes:
        return bytes.fromhex((self.site.root / "cookie_secret").read_text().strip())

    def said(self, who: Visitor) -> dict[str, Any]:
        raw = decode_signed_value(self.secret(), COOKIE, who.cookies[WHERE].strip('"'))
        assert raw is not None
        found: dict[str, Any] = json.loads(raw)
        return found

    def say(self, who: Visitor, **more: Any) -> None:
        """A cookie with a good signature: what the hub itself could have made at another time."""
        text = json.dumps({**self.said(who), **more})
        who.cookies[WHERE] = create_signed_value(self.secret(), COOKIE, text).decode()


Attack = Callable[[Scene], Awaitable[int]]
ATTACKS: dict[str, tuple[Attack, int]] = {}


def attack(status: int) -> Callable[[Attack], Attack]:
    """An attack answers with the status that refused it."""

    def keep(fn: Attack) -> Attack:
        ATTACKS[fn.__name__.replace("_", " ")] = fn, status
        return fn

    return keep


@attack(302)
async def equal_name_and_verified_mail(s: Scene) -> int:
    answer = await s.site.come(s.attacker, s.hers)
    assert location(answer) == "/hub/daas/link"
    return answer.code


@attack(403)
async def wrong_password(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    return (await s.site.prove(s.attacker, "dora", "wrong")).code


@attack(403)
async def form_of_another_site(s: Scene) -> int:
    await s.site.arrive(s.victim, s.mine)
    return (await s.site.prove(s.victim, "dora", xsrf="")).code


@attack(403)
async def token_of_another_browser(s: Scene) -> int:
    await s.site.arrive(s.victim, s.mine)
    return (await s.site.prove(s.victim, "dora", xsrf=s.attacker._xsrf("/hub/daas/link") or "x" * 60)).code


@attack(403)
async def cross_site_with_the_right_token(s: Scene) -> int:
    await s.site.arrive(s.victim, s.mine)
    return (await s.site.prove(s.victim, "dora", headers={"Sec-Fetch-Site": "cross-site"})).code


@attack(403)
async def called_a_websocket(s: Scene) -> int:
    await s.site.arrive(s.victim, s.mine)
    return (await s.site.prove(s.victim, "dora", xsrf="", headers={"Sec-Fetch-Mode": "websocket"})).code


@attack(403)
async def called_no_cors(s: Scene) -> int:
    await s.site.arrive(s.victim, s.mine)
    return (await s.site.prove(s.victim, "dora", xsrf="", headers={"Sec-Fetch-Mode": "no-cors"})).code


@attack(400)
async def no_cookie(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    del s.attacker.cookies[WHERE]
    return (await s.site.prove(s.attacker, "emil")).code


@attack(400)
async def altered_cookie(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    other = json.dumps({**s.said(s.attacker), "subject": s.hers})
    s.attacker.cookies[WHERE] = create_signed_value(b"x" * 32, COOKIE, other).decode()
    return (await s.site.prove(s.attacker, "emil")).code


@attack(400)
async def expired_cookie(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    s.say(s.attacker, begun_at=s.said(s.attacker)["begun_at"] - LASTS_S - 1)
    return (await s.site.prove(s.attacker, "emil")).code


@attack(400)
async def cookie_of_an_earlier_hub(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    s.say(s.attacker, boot="another boot")
    return (await s.site.prove(s.attacker, "emil")).code


@attack(400)
async def cookie_of_a_provider_that_is_gone(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    s.say(s.attacker, way="third")
    return (await s.site.prove(s.attacker, "emil")).code


@attack(400)
async def replayed_cookie(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    kept = s.attacker.cookies[WHERE]
    location(await s.site.prove(s.attacker, "emil"))
    s.attacker.cookies[WHERE] = kept
    return (await s.site.prove(s.attacker, "emil")).code


@attack(409)
async def stolen_cookie(s: Scene) -> int:
    """The victim's sign-in shall open the attacker's account, and with it whatever she then puts there."""
    await s.site.arrive(s.victim, s.hers)
    await s.site.arrive(s.attacker, s.mine)
    s.attacker.cookies[WHERE] = s.victim.cookies[WHERE]
    away = location(await s.site.prove(s.attacker, "emil"))
    return (await s.attacker.get(s.approve(away, s.mine))).code


@attack(409)
async def planted_cookie(s: Scene) -> int:
    """The attacker's sign-in shall open the victim's account: she is made to give her password on his page."""
    await s.site.arrive(s.attacker, s.mine)
    await s.site.arrive(s.victim, s.hers)
    s.victim.cookies[WHERE] = s.attacker.cookies[WHERE]
    away = location(await s.site.prove(s.victim, "dora"))
    return (await s.victim.get(s.approve(away, s.hers))).code


@attack(400)
async def proof_taken_to_another_browser(s: Scene) -> int:
    await s.site.arrive(s.victim, s.hers)
    away = location(await s.site.prove(s.victim, "dora"))
    return (await s.attacker.get(s.approve(away, s.mine))).code


@attack(403)
async def forged_token_on_the_way_back(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    away = location(await s.site.prove(s.attacker, "emil"))
    s.site.first.forge = FORGERIES["aud another"]
    try:
        return (await s.attacker.get(s.approve(away, s.mine))).code
    finally:
        s.site.first.forge = None


@attack(400)
async def another_provider_answers(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    away = location(await s.site.prove(s.attacker, "emil"))
    back = s.approve(away, s.mine).replace("/oidc/first/", "/oidc/second/")
    return (await s.attacker.get(back)).code


@attack(403)
async def an_account_that_may_not_sign_in(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    return (await s.site.prove(s.attacker, "eve")).code


@attack(403)
async def a_locked_account(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    return (await s.site.prove(s.attacker, "locked")).code


@attack(403)
async def the_local_administrator(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    return (await s.site.prove(s.attacker, LOCAL, "a long local password")).code


@attack(400)
async def a_directory_that_is_none(s: Scene) -> int:
    await s.site.arrive(s.attacker, s.mine)
    fields = {"username": "emil", "password": "emil-secret", "way": "second"}
    return (await s.attacker.post("/hub/daas/link", fields)).code


@attack(403)
async def a_uid_of_two_people(s: Scene) -> int:
    await s.site.link(s.victim, s.hers, "dora")
    homes = s.site.slapd._ldif()
    entry = homes.split(f"dn: uid=dora,ou=people,{BASE}\n")[1].split("\n\n")[0].replace("dora", "twin")
    await s.site.slapd.add(f"dn: uid=twin,ou=people,{BASE}\n{entry}\n")
    value = next(line for line in homes.splitlines() if line.startswith("member") and "dora" in line)
    attribute, _, text = value.partition(": ")
    twin = f"add: {attribute}\n{attribute}: {text.replace('dora', 'twin')}\n"
    lab = f"dn: cn=lab,ou=groups,{BASE}\nchangetype: modify\n{twin}"
    await s.site.slapd.modify(lab)
    await s.site.arrive(s.attacker, s.mine)
    return (await s.site.prove(s.attacker, "twin")).code


@attack(403)
async def a_form_that_speaks_like_a_provider(s: Scene) -> int:
    await s.attacker.get("/hub/login")
    fields = {"username": "dora", "password": "x", "way": "site", "code": "c", "pending": "{}", "came_by": s.hers}
    return (await s.attacker.post("/hub/login", fields)).code


@attack(302)
async def same_subject_at_another_provider(s: Scene) -> int:
    await s.site.link(s.victim, s.hers, "dora")
    answer = await s.site.come(s.attacker, s.hers, way="second")
    assert location(answer) == "/hub/daas/link"
    return answer.code


@attack(409)
async def relink_by_another_person(s: Scene) -> int:
    """The identity was linked while somebody else, at its provider as well, stood on the page."""
    await s.site.arrive(s.attacker, s.hers)
    away = location(await s.site.prove(s.attacker, "emil"))
    await s.site.link(s.victim, s.hers, "dora")
    return (await s.attacker.get(s.approve(away, s.hers))).code


@attack(429)
async def guessing_passwords(s: Scene) -> int:
    """As slow as at the form, and counted together with it."""
    await s.site.arrive(s.attacker, s.mine)
    for number in range(3):
        assert (await s.site.prove(s.attacker, "bob", f"guess {number}")).code == 403
    for number in range(2):
        assert (await s.site.password(s.attacker, "bob", f"other {number}")).code == 403
    assert (await s.site.password(s.attacker, "bob")).code == 429
    return (await s.site.prove(s.attacker, "bob")).code


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_opens_nothing(site: LinkSite, name: str) -> None:
    fn, status = ATTACKS[name]
    scene = Scene(site, name.replace(" ", "-"))
    before = {who: set(site.links(who)) for who in ("dora", "emil", "bob", "eve", "twin")}
    assert await fn(scene) == status
    # Nobody is in, and nothing was linked but what the victim herself did, with her own identity.
    assert await site.user_of(scene.attacker) == ""
    for who, links in before.items():
        new = {key for key in set(site.links(who)) - links if not key[0].startswith("ldap:")}
        assert {subject for _, subject, _ in new} <= ({scene.hers} if who == "dora" else set())


async def test_two_browsers_at_once_make_one_link(site: LinkSite) -> None:
    s = Scene(site, "race")
    ways = []
    for who, name in ((s.victim, "dora"), (s.attacker, "emil")):
        await site.arrive(who, s.hers)
        ways.append((who, s.approve(location(await site.prove(who, name)), s.hers)))
    answers = await asyncio.gather(*(who.get(back) for who, back in ways))
    assert sorted(answer.code for answer in answers) == [302, 409]
    linked = [who for who in ("dora", "emil") for _, subject, _ in site.links(who) if subject == s.hers]
    assert len(linked) == 1


async def test_nothing_leads_elsewhere_after_a_link(site: LinkSite) -> None:
    for number, text in enumerate(("//evil.test/", "https://evil.test/", "/\\evil.test", "/hub/..//evil.test")):
        s = Scene(site, f"next-{number}")
        then = location(await site.link(s.victim, s.hers, "dora", then=text))
        assert then.startswith("/hub/") or then == "/hub"
        assert not urlsplit(then).netloc
        assert "evil" not in then
        assert quote(text) not in then


async def test_a_session_of_before_is_not_the_one_after(site: LinkSite) -> None:
    """Whatever an attacker put into the browser before opens nothing afterwards."""
    s = Scene(site, "fixed")
    assert location(await site.password(s.attacker, "emil"))
    planted = {key: value for key, value in s.attacker.cookies.items() if key[0] == "jupyterhub-hub-login"}
    assert planted
    s.victim.cookies |= planted
    assert location(await site.link(s.victim, s.hers, "dora", then="/hub/home")) == "/hub/home"
    assert await site.user_of(s.victim) == "dora"
    assert await site.user_of(s.attacker) == "emil"
    assert {s.victim.cookies[key] for key in planted}.isdisjoint(planted.values())
