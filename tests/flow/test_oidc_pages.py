"""The pages of a sign-in by OpenID Connect in a real hub: tabs, states, redirects, a provider that is away."""

from __future__ import annotations

import asyncio
import html
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio

from daas_hub.auth.oidc_states import MAX_TABS, PREFIX
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT, FORGERIES, SECRET
from tests.servers.hub import LOOP_MONITOR, HubServer
from tests.servers.visitor import Visitor, location
from tests.unit.test_oidc_claims import ELSEWHERE
from tests.waiting import until

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

CONFIG = """
c.JupyterHub.authenticator_class = "daas_hub.auth.oidc.DaasOIDCAuthenticator"
c.DaasOIDCAuthenticator.issuer = "{issuer}"
c.DaasOIDCAuthenticator.client_id = "{client}"
c.DaasOIDCAuthenticator.client_secret_file = "{secret}"
c.DaasOIDCAuthenticator.allow_plaintext = True
c.DaasOIDCAuthenticator.allowed_groups = {{"lab"}}
c.DaasOIDCAuthenticator.answer_within_s = 2
c.JupyterHub.spawner_class = "simple"
c.Authenticator.auth_refresh_age = 300
c.Authenticator.auth_refresh_strict = True
"""


@dataclass
class Place:
    """A hub and its provider."""

    hub: HubServer
    provider: EvilProvider

    def visitor(self) -> Visitor:
        return Visitor(self.hub.hub_url)

    async def begin(self, who: Visitor, then: str = "") -> str:
        """Press the button; the provider approves. The address of the call-back."""
        away = location(await who.get(f"/hub/oauth_login?next={quote(then)}"))
        return self.provider.approve(away)

    async def sign_in(self, who: Visitor, then: str = "/hub/home") -> str:
        return location(await who.get(await self.begin(who, then)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    root: Path = tmp_path_factory.mktemp("oidc")
    provider = await EvilProvider().start()
    secret = root / "secret"
    secret.write_text(SECRET)
    hub = HubServer(root, CONFIG.format(issuer=provider.issuer, client=CLIENT, secret=secret))
    # Without our own configure(c): these classes do not exist there.
    hub.config += "del c.DaasHub, c.LocalBackend\nc.Authenticator.enable_auth_state = True\n"
    hub.config += LOOP_MONITOR
    await hub.start()
    yield Place(hub, provider)
    await hub.stop()
    await provider.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def place(shared: Place) -> Place:
    shared.provider.calls.clear()
    shared.provider.forge, shared.provider.faults, shared.provider.callback_more = None, {}, {}
    return shared


async def test_the_address_of_a_sign_in(place: Place) -> None:
    who = place.visitor()
    away = urlsplit(location(await who.get("/hub/oauth_login?next=/hub/home&state=mine&nonce=mine")))
    said = parse_qs(away.query)
    assert f"{away.scheme}://{away.netloc}{away.path}" == f"{place.provider.issuer}/authorize"
    assert said["response_type"] == ["code"]
    assert said["code_challenge_method"] == ["S256"]
    assert said["redirect_uri"] == [f"{place.hub.hub_url}/hub/oauth_callback"]
    assert said["state"] != ["mine"]
    assert all(len(said[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))
    assert "code_verifier" not in said


async def test_the_cookie_of_a_state(place: Place) -> None:
    answer = await place.visitor().get("/hub/oauth_login")
    (line,) = [line for line in answer.headers.get_list("Set-Cookie") if line.startswith(PREFIX)]
    options = {part.strip().lower() for part in line.split(";")[1:]}
    assert {"httponly", "samesite=lax", "max-age=600", "path=/hub/"} <= options


async def test_five_tabs_come_back_in_any_order(place: Place) -> None:
    who = place.visitor()
    pages = [f"/hub/token?tab={n}" for n in range(5)]
    tabs = [(page, await place.begin(who, page)) for page in pages]
    random.Random(4).shuffle(tabs)
    assert [page for page, _ in tabs] != pages
    for page, back in tabs:
        assert location(await who.get(back)) == page
    assert (await who.get("/hub/home")).code == 200
    assert who.named(PREFIX) == []


async def test_a_state_is_good_once_and_in_its_own_browser_only(place: Place) -> None:
    who, thief = place.visitor(), place.visitor()
    back = await place.begin(who)
    kept = dict(who.cookies)
    assert (await thief.get(back)).code == 400
    assert location(await who.get(back))
    assert (await who.get(back)).code == 400
    # Even with the cookie of before, and a code that nobody has used.
    who.cookies = kept
    fresh = parse_qs(urlsplit(await place.begin(place.visitor())).query)["code"][0]
    state = parse_qs(urlsplit(back).query)["state"][0]
    assert (await who.get(f"/hub/oauth_callback?state={state}&code={fresh}")).code == 400
    assert (await thief.get("/hub/home")).code == 302


async def test_nobody_is_signed_in_with_anothers_code(place: Place) -> None:
    """Sign-in forced on a victim: the attacker's code in the victim's own state."""
    victim, attacker = place.visitor(), place.visitor()
    state = parse_qs(urlsplit(await place.begin(victim)).query)["state"][0]
    code = parse_qs(urlsplit(await place.begin(attacker)).query)["code"][0]
    assert (await victim.get(f"/hub/oauth_callback?state={state}&code={code}")).code == 403


@pytest.mark.parametrize(
    "query", ["", "state=x", "state=x&code=y", "state=&code=y", "state=a&state=b&code=y", "state=é"]
)
async def test_call_backs_that_are_none(place: Place, query: str) -> None:
    who = place.visitor()
    await place.begin(who)
    assert (await who.get(f"/hub/oauth_callback?{quote(query, safe='=&')}")).code == 400


async def test_many_tabs_are_bounded_and_the_newest_count(place: Place) -> None:
    who = place.visitor()
    backs = [await place.begin(who) for _ in range(MAX_TABS + 4)]
    assert len(who.named(PREFIX)) == MAX_TABS
    answers = [(await who.get(back)).code for back in backs[-3:]]
    assert answers == [302, 302, 302]
    assert (await who.get(backs[0])).code == 400


async def test_a_mix_up_of_providers(place: Place) -> None:
    who = place.visitor()
    place.provider.callback_more = {"iss": "http://127.0.0.1:9"}
    assert (await who.get(await place.begin(who))).code == 400
    place.provider.callback_more = {"iss": place.provider.issuer}
    assert location(await who.get(await place.begin(who)))


async def test_what_the_provider_refuses(place: Place) -> None:
    script = "<script>alert(1)</script>"
    for error, status in [("access_denied", 403), ("temporarily_unavailable", 503), ("invalid_scope", 400)]:
        who = place.visitor()
        state = parse_qs(urlsplit(await place.begin(who)).query)["state"][0]
        answer = await who.get(f"/hub/oauth_callback?state={state}&error={error}&error_description={quote(script)}")
        assert answer.code == status
        text = answer.body.decode()
        assert script not in text
        assert html.escape(script) not in text


async def test_a_forged_token_has_a_page_that_says_nothing_about_it(place: Place) -> None:
    who = place.visitor()
    place.provider.forge = FORGERIES["aud another"]
    answer = await who.get(await place.begin(who))
    assert answer.code == 403
    text = answer.body.decode()
    assert text.count("could not be verified") == 1
    assert 'href="/hub/login">Sign in again</a>' in text
    assert "aud another" not in text
    assert "other" not in html.unescape(text).split("could not be verified")[1].split("</p>")[0]
    assert "an id_token is refused: aud" in place.hub.log_text()


async def test_nothing_leads_elsewhere(place: Place) -> None:
    """``next`` on the way in, on the way back, when signed in already, and on the way out."""
    for text in ELSEWHERE:
        who, then = place.visitor(), quote(text)
        refused = await who.get(f"{await place.begin(who, text)}&next={then}")
        assert refused.code == 400 or stays(refused.headers["Location"]), text
        who = place.visitor()
        assert stays(await place.sign_in(who, text)), text
        assert stays(location(await who.get(f"/hub/logout?next={then}"))), text


def stays(url: str) -> bool:
    """A path of the hub, as any browser reads it."""
    return url.startswith("/hub") and not urlsplit(url).netloc and "\\" not in url and "evil" not in urlsplit(url).path


async def test_a_provider_that_is_away(place: Place) -> None:
    inside, outside = place.visitor(), place.visitor()
    assert await place.sign_in(inside) == "/hub/home"
    back = await place.begin(outside)
    place.provider.faults = {"token": 503, "userinfo": 503}
    answer = await outside.get(back)
    assert answer.code == 503
    assert answer.headers["Retry-After"] == "30"
    assert "identity provider cannot be reached" in answer.body.decode()
    assert (await inside.get("/hub/home")).code == 200
    place.provider.faults = {}
    assert location(await outside.get(await place.begin(outside)))


async def test_a_provider_that_is_silent_holds_up_nobody_else(place: Place) -> None:
    """Twenty sign-ins wait for it for two seconds each; the hub's loop does not."""
    inside, waiting = place.visitor(), [place.visitor() for _ in range(20)]
    await place.sign_in(inside)
    backs = [await place.begin(who) for who in waiting]
    place.provider.faults = {"token": "hang"}
    place.hub.forget_gaps()
    asked = [asyncio.ensure_future(who.get(back)) for who, back in zip(waiting, backs, strict=True)]
    await until(lambda: place.provider.calls["token"] >= 5, what="they wait")
    assert (await inside.get("/hub/home")).code == 200
    assert {(await each).code for each in asked} == {503}
    assert place.hub.worst_gap_s() < 1


async def test_out_ends_the_tokens_too(place: Place) -> None:
    who = place.visitor()
    await place.sign_in(who)
    grant = list(place.provider.refresh_tokens.values())[-1]
    await who.get("/hub/logout")
    assert grant.ended
    assert (await who.get("/hub/home")).code == 302


async def post_logout(place: Place, token: str) -> int:
    url = f"{place.hub.hub_url}/hub/oidc/logout"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return (await place.hub.http("POST", url, f"logout_token={token}".encode(), kind))[0]


async def test_the_provider_ends_a_session_by_itself(place: Place) -> None:
    first, second = place.visitor(), place.visitor()
    await place.sign_in(first)
    await place.sign_in(second)
    _, users = await place.hub.api("GET", "users")
    (name,) = [user["name"] for user in users]
    _, made = await place.hub.api("POST", f"users/{name}/tokens", {"note": "Server at /user/x/"})
    token = place.provider.logout_token("1")
    for wrong in (
        place.provider.logout_token("1", iss="http://127.0.0.1:9"),
        place.provider.logout_token("1", aud="other"),
        place.provider.logout_token("1", nonce="n"),
        place.provider.logout_token("1", events={}),
        place.provider.logout_token("1", jti=None),
        place.provider.logout_token("1", sub=None),
        "",
        token[:-8],
    ):
        assert await post_logout(place, wrong) == 400
    assert await post_logout(place, place.provider.logout_token("nobody")) == 200
    assert (await first.get("/hub/home")).code == 200
    assert (await place.hub.api("GET", "user", token=made["token"]))[0] == 200

    assert await post_logout(place, token) == 200
    for who in (first, second):
        assert (await who.get("/hub/home")).code == 302
    assert (await place.hub.api("GET", "user", token=made["token"]))[0] == 403
    # The same once more ends nobody's next sign-in.
    await place.sign_in(first)
    assert await post_logout(place, token) == 400
    assert (await first.get("/hub/home")).code == 200


async def test_a_session_that_is_not_her_last_sign_in_is_found(place: Place) -> None:
    """A logout token may name the session alone (Back-Channel Logout 1.0, 2.4), and she has one in each browser."""
    first, second = place.visitor(), place.visitor()
    for who, sid in ((first, "at the office"), (second, "at home")):
        place.provider.extra_claims = {"sid": sid}
        await place.sign_in(who)
    assert await post_logout(place, place.provider.logout_token("1", sub=None, sid="nobody's")) == 200
    assert (await first.get("/hub/home")).code == 200
    assert "nobody's last sign-in" in place.hub.log_text()

    assert await post_logout(place, place.provider.logout_token("1", sub=None, sid="at the office")) == 200
    assert [(await who.get("/hub/home")).code for who in (first, second)] == [302, 302]


async def test_no_secret_is_in_the_log(place: Place) -> None:
    who = place.visitor()
    await place.sign_in(who)
    log = place.hub.log_text()
    assert "User logged in" in log
    assert [line for line in log.splitlines() if "code=" in line and "[secret]" not in line] == []
    assert [secret for secret in {*place.provider.secrets_seen, SECRET} if secret and secret in log] == []
