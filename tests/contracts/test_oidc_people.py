"""Who somebody is: by issuer and subject, whatever she is called; and who of them is let in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from traitlets.config import Config

from daas_hub.auth.linked import NotLinked
from daas_hub.auth.oidc import DaasOIDCAuthenticator
from daas_hub.auth.oidc_states import Pending
from daas_hub.auth.own_name import OwnNames
from daas_hub.core.errors import ConfigError, DirectoryUnavailable, TokenRefused
from daas_hub.core.linking import Proof
from daas_hub.core.models import Identity
from tests.contracts.oidc_rig import CALLBACK, Rig
from tests.servers.evil_provider import EvilProvider

VICTIM = {"preferred_username": "victim", "email": "victim@site.test", "email_verified": True, "groups": ["lab"]}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    provider = await EvilProvider(people={"1": dict(VICTIM), "2": {"groups": ["lab"], "name": "Mallory"}}).start()
    yield Rig(provider, tmp_path)
    await provider.stop()


@pytest.mark.parametrize("claim", ["", "preferred_username"])
async def test_who_calls_herself_like_another_gets_nothing_of_hers(rig: Rig, claim: str) -> None:
    rig.make(username_claim=claim, mail_domains={"site.test"})
    victim = await rig.sign_in("1")
    rig.provider.people["2"].update(VICTIM)
    if claim:
        with pytest.raises(web.HTTPError) as error:
            await rig.sign_in("2")
        assert error.value.status_code == 409
        assert "somebody else has this name" in str(error.value.log_message)
    else:
        assert (await rig.sign_in("2")).name != victim.name
    assert (await rig.sign_in("1")).name == victim.name


async def test_a_refresh_gives_nobody_another_ones_name_or_rights(rig: Rig) -> None:
    rig.provider.people["2"]["preferred_username"] = "mallory"
    rig.make(username_claim="preferred_username", admin_users={"victim"})
    user = await rig.sign_in("2")
    rig.provider.people["2"].update(VICTIM)
    model = await rig.authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert (model["name"], model["admin"]) == ("mallory", False)
    # Accounts are looked for by this name.
    assert model["auth_state"]["daas"]["identity"]["name"] == "mallory"


async def test_two_people_who_become_one_name_at_the_same_moment(rig: Rig) -> None:
    rig.make(username_claim="preferred_username")
    await rig.sign_in("1")
    rig.hub.users.clear()  # the hub has not made the user yet
    rig.provider.people["2"].update(VICTIM)
    with pytest.raises(web.HTTPError, match="409"):
        await rig.sign_in("2")


async def test_a_state_that_cannot_be_read_is_somebodys(rig: Rig) -> None:
    rig.make(username_claim="preferred_username")
    user = await rig.sign_in("1")
    user.encrypted_auth_state = "null"  # as with a crypt key that is gone
    rig.authenticator._names = OwnNames()
    with pytest.raises(web.HTTPError, match="409"):
        await rig.sign_in("1")


async def test_a_new_label_keeps_the_user(rig: Rig) -> None:
    user = await rig.sign_in("1")
    rig.provider.people["1"].update(preferred_username="married", email="married@site.test", name="New Name")
    assert (await rig.sign_in("1")).name == user.name


@pytest.mark.parametrize("name", ["", "../x", "a/b", "ad\nmin", "ädä", 17, None, "x" * 300])
async def test_a_name_that_is_none(rig: Rig, name: Any) -> None:
    rig.make(username_claim="preferred_username")
    rig.provider.people["1"]["preferred_username"] = name
    with pytest.raises(TokenRefused) as error:
        await rig.sign_in("1")
    assert error.value.reason == "name"


ALLOW = [
    # settings → whether 1 (group lab) and 2 (no group) get in
    ({}, ""),
    ({"allowed_groups": {"lab"}}, "1"),
    ({"allowed_groups": {"la", "LAB", "lab2"}}, ""),
    ({"admin_groups": {"lab"}}, "1"),
    ({"allow_all": True}, "12"),
    ({"allow_all": True, "blocked_groups": {"lab"}}, "2"),
    ({"admin_groups": {"lab"}, "blocked_groups": {"lab"}}, ""),
    ({"allowed_users": {"two"}}, "2"),
    ({"admin_users": {"two"}}, "2"),
    ({"admin_users": {"two"}, "blocked_users": {"two"}, "allow_all": True}, "1"),
    ({"allowed_users": {"one"}, "blocked_groups": {"lab"}}, ""),
]


@pytest.mark.parametrize(("settings", "inside"), ALLOW)
async def test_who_is_let_in(rig: Rig, settings: dict[str, Any], inside: str) -> None:
    rig.provider.people = {
        "1": {"preferred_username": "one", "groups": ["lab"]},
        "2": {"preferred_username": "two", "groups": []},
    }
    rig.make(**{"allowed_groups": set(), "username_claim": "preferred_username", **settings})
    got_in = ""
    for person in "12":
        try:
            await rig.sign_in(person)
            got_in += person
        except web.HTTPError as error:
            assert error.status_code == 403  # noqa: PT017
    assert got_in == inside


async def test_more_groups_than_fit_into_a_token(rig: Rig) -> None:
    del rig.provider.people["1"]["groups"]
    rig.provider.people["1"]["_claim_names"] = {"groups": "src1"}
    rig.provider.people["1"]["_claim_sources"] = {"src1": {"endpoint": f"{rig.provider.issuer}/trap"}}
    with pytest.raises(TokenRefused) as error:
        await rig.sign_in("1")
    assert error.value.reason == "groups"
    rig.make(groups_overage_url=f"{rig.provider.issuer}/groups", allowed_groups={"overage-1"})
    user = await rig.sign_in("1")
    assert user.model["groups"] == ["overage-1", "overage-2"]  # type: ignore[attr-defined]
    rig.provider.faults = {"groups": 403}
    with pytest.raises(DirectoryUnavailable):
        await rig.sign_in("1")
    assert await rig.authenticator.refresh_user(user) is True


async def test_an_authoritative_issuer_says_the_posix_account(rig: Rig) -> None:
    rig.provider.people["1"].update(uid="20001", gid=30001, homeDirectory="/home/ada")
    rig.make(posix_claims={"uid_number": "uid", "gid_number": "gid", "home": "homeDirectory"})
    model = (await rig.sign_in("1")).model  # type: ignore[attr-defined]
    attributes = model["auth_state"]["daas"]["identity"]["attributes"]
    assert attributes == {"uid_number": 20001, "gid_number": 30001, "home": "/home/ada"}


async def test_a_provider_without_openid_connect(rig: Rig) -> None:
    """As GitHub: no id_token, a number as the lasting id, the code's verifier all the same."""
    issuer = rig.provider.issuer
    rig.provider.people["1"] = {"id": 583231, "login": "octocat"}
    rig.make(
        preset="github",
        allow_all=True,
        endpoints={
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "userinfo_endpoint": f"{issuer}/userinfo",
        },
    )
    user = await rig.sign_in("1")
    assert user.model["auth_state"]["daas"]["came_by"]["subject"] == "583231"  # type: ignore[attr-defined]
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert rig.provider.calls[".well-known/openid-configuration"] == 0
    # It cannot say when she proved who she is, so that is refused where it must be anew.
    with pytest.raises(TokenRefused) as error:
        await rig.sign_in("1", pending=Pending("", CALLBACK, anew=True))
    assert error.value.reason == "auth_time"
    assert "nonce" not in rig.authenticator.authorize_params(Pending("", CALLBACK))


class Linked:
    """A site with a directory: the provider's ``1`` is its ``ada``, nobody else is anybody."""

    independent = True

    def __init__(self) -> None:
        self.gone = False
        self.away = False

    async def site_identity(self, came_by: Identity, proof: Proof | None = None) -> Identity | None:
        if self.away:
            raise DirectoryUnavailable("away")
        ada = Identity("ldap:ldap", "uuid-of-ada", "ada", groups=("lab",))
        return ada if came_by.subject == "1" and not self.gone else None

    async def vouched(self, handler: Any, came_by: Identity, /) -> Identity | None:
        return None

    async def fresh_identity(self, identity: Identity, *, alone: bool = False) -> Identity | None:
        return None if self.gone else identity

    def rules(self, site: Identity) -> Any | None:
        return None

    async def not_linked(self, handler: Any, who: NotLinked, next_url: str, /) -> None:
        raise AssertionError("a page's part")


async def test_the_site_says_whose_account_it_is(rig: Rig) -> None:
    sites = Linked()
    rig.authenticator.sites = sites
    user = await rig.sign_in("1")
    state = (await user.get_auth_state())["daas"]
    assert (user.name, state["identity"]["issuer"]) == ("ada", "ldap:ldap")
    assert state["came_by"]["issuer"] == rig.provider.issuer
    with pytest.raises(NotLinked) as nobody:
        await rig.sign_in("2")
    assert nobody.value.came_by.subject == "2"
    sites.away = True
    assert await rig.authenticator.refresh_user(user) is True
    sites.away, sites.gone = False, True
    assert await rig.authenticator.refresh_user(user) is False


async def test_a_directory_decides_about_all_but_her_browser(rig: Rig) -> None:
    """The table of what a refresh may do, where provider and directory are two sources."""
    sites = Linked()
    rig.authenticator.sites = sites
    user = await rig.sign_in("1")
    browser = SimpleNamespace(_jupyterhub_user=user, _token_authenticated=False)
    token = SimpleNamespace(_jupyterhub_user=user, _token_authenticated=True)
    administrator = SimpleNamespace(_jupyterhub_user=object(), _token_authenticated=False)

    async def answers() -> list[Any]:
        found = [await rig.authenticator.refresh_user(user, who) for who in (browser, token, administrator, None)]
        return ["model" if isinstance(answer, dict) else answer for answer in found]

    assert await answers() == ["model"] * 4
    rig.provider.faults = {"token": 503}
    assert await answers() == ["model"] * 4  # as the directory has her
    sites.gone = True
    assert await answers() == [False] * 4  # and who left is out, whether the provider is there or not
    sites.gone, sites.away = False, True
    assert await answers() == [True] * 4
    rig.provider.faults, sites.away = {}, False
    for grant in rig.provider.refresh_tokens.values():
        grant.ended = True
    assert await answers() == [False, "model", "model", "model"]
    sites.away = True
    assert await answers() == [False] * 4
    sites.gone, sites.away = True, False
    assert await answers() == [False] * 4


async def test_the_default_asks_nobody_about_another_issuers_people(rig: Rig) -> None:
    user = await rig.sign_in("1")
    own = Identity(rig.provider.issuer, "1", user.name)
    assert await rig.authenticator.fresh_identity(own) == own
    with pytest.raises(DirectoryUnavailable, match="another identity provider"):
        await rig.authenticator.fresh_identity(Identity("ldap:ldap", "x", "ada"))


GOOD = {"issuer": "https://idp.site", "client_id": "daas"}
LINK_BY = {"claim": "person", "directory": "site", "attribute": "employeeNumber"}
WRONG = [
    ({"issuer": ""}, "issuer is empty"),
    ({"client_id": ""}, "client_id is empty"),
    ({"issuer": "http://idp.site"}, "https://"),
    ({"issuer": "https://a:b@idp.site"}, "https://"),
    ({"client_secret": "in the open"}, "client_secret: no such setting"),
    ({"token_url": "https://idp.site/t"}, "token_url: no such setting"),
    ({"claim_groups_key": "g"}, "claim_groups_key: no such setting"),
    ({"enable_pkce": False}, "enable_pkce: no such setting"),
    ({"alowed_groups": {"x"}}, "alowed_groups: no such setting"),
    ({"client_secret_file": "/nowhere/secret"}, "cannot be read"),
    ({"tls_ca_file": "/nowhere/ca"}, "is not a file"),
    ({"algorithms": ["none"]}, "algorithms"),
    ({"algorithms": ["RS256", "HS256"]}, "algorithms"),
    ({"algorithms": []}, "algorithms"),
    ({"scope": ["profile"]}, "needs openid"),
    ({"subject_claim": "email"}, "subject_claim"),
    ({"endpoints": {"token_endpoint": "https://idp.site/t"}}, "endpoints"),
    ({"posix_claims": {"uid": "uid"}}, "posix_claims"),
    ({"extra_authorize_params": {"state": "x"}}, "extra_authorize_params"),
    ({"link_by": {"claim": "person"}}, "it needs claim, directory and attribute"),
    ({"link_by": LINK_BY, "way_name": ""}, "no effect without a directory"),
    ({"link_by": {**LINK_BY, "claim": "email"}, "way_name": "x"}, "believed of nobody"),
    ({"link_by": {**LINK_BY, "attribute": "sAMAccountName"}, "way_name": "x"}, "believed of nobody"),
    ({"link_by": {**LINK_BY, "attribute": "a)(b"}, "way_name": "x"}, "no name of an attribute"),
    ({"extra_authorize_params": {"request_uri": "x"}}, "extra_authorize_params"),
]


@pytest.mark.parametrize(("wrong", "text"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_work_stops_the_start(wrong: dict[str, Any], text: str) -> None:
    DaasOIDCAuthenticator(config=Config({"DaasOIDCAuthenticator": GOOD}))
    with pytest.raises(ConfigError, match=text):
        DaasOIDCAuthenticator(config=Config({"DaasOIDCAuthenticator": {**GOOD, **wrong}}))


@pytest.mark.parametrize("section", ["GenericOAuthenticator", "OAuthenticator"])
def test_settings_of_the_parents_are_looked_at_too(section: str) -> None:
    with pytest.raises(ConfigError, match=f"c.{section}.userdata_url"):
        DaasOIDCAuthenticator(
            config=Config({"DaasOIDCAuthenticator": GOOD, section: {"userdata_url": "https://idp.site/u"}})
        )


@pytest.mark.parametrize("preset", ["keycloak", "entra", "gitlab", "github"])
def test_every_preset_starts(preset: str) -> None:
    authenticator = DaasOIDCAuthenticator(config=Config({"DaasOIDCAuthenticator": {**GOOD, "preset": preset}}))
    assert authenticator.issuer == "https://idp.site"
    assert bool(authenticator.endpoints) == (preset == "github")
    assert authenticator.login_service != "OpenID Connect"
