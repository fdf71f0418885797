"""DaasLDAPAuthenticator on a real OpenLDAP: who is let in, as what, and for how long."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tornado import web
from traitlets import TraitError
from traitlets.config import Config

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from daas_hub.core.errors import ConfigError, DirectoryUnavailable
from daas_hub.core.models import Identity
from tests.servers.slapd import BASE, GROUPS, PEOPLE, SERVICE_DN, Slapd

pytestmark = pytest.mark.needs("slapd")
Make = Callable[..., DaasLDAPAuthenticator]


@pytest.fixture
def make(slapd: Slapd) -> Make:
    def make(**more: Any) -> DaasLDAPAuthenticator:
        site = {
            "server_uris": [slapd.uri],
            "tls_ca_file": str(slapd.ca_file),
            "bind_dn": SERVICE_DN,
            "bind_password_file": str(slapd.password_file),
            "user_search_base": f"ou=people,{BASE}",
            "group_search_base": f"ou=groups,{BASE}",
            "allowed_groups": {"lab"},
            "admin_groups": {"operators"},
        }
        return DaasLDAPAuthenticator(config=Config({"DaasLDAPAuthenticator": {**site, **more}}))

    return make


class User:
    """A hub user as ``refresh_user`` sees her."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.name = model["name"]
        # As the hub stores it: through JSON.
        self._state = json.loads(json.dumps(model["auth_state"]))

    async def get_auth_state(self) -> Any:
        return self._state


async def sign_in(authenticator: DaasLDAPAuthenticator, name: str, password: str | None = None) -> Any:
    data = {"username": name, "password": password or f"{name}-secret"}
    return await authenticator.get_authenticated_user(None, data)


async def refused(authenticator: DaasLDAPAuthenticator, name: str) -> tuple[int, str]:
    with pytest.raises(web.HTTPError) as error:
        await sign_in(authenticator, name)
    return error.value.status_code, error.value.log_message or ""


async def test_groups_admin_and_identity_of_a_login(make: Make) -> None:
    authenticator = make()
    assert authenticator.manage_groups
    assert authenticator.enable_auth_state
    boss = await sign_in(authenticator, "BOSS", "boss-secret")
    assert (boss["name"], boss["admin"], boss["groups"]) == ("boss", True, ["lab", "operators"])
    ada = await sign_in(authenticator, "ada")
    # Said in so many words: only an explicit False takes administrator's rights away again.
    assert ada["admin"] is False
    state = json.loads(json.dumps(ada["auth_state"]))["daas"]
    assert state["version"] == 1
    assert state["identity"]["issuer"] == "ldap:ldap"
    assert state["identity"]["attributes"]["posix_groups"] == [["lab", GROUPS["lab"]]]
    assert "ada-secret" not in json.dumps(state)


async def test_every_outcome_is_another_one(make: Make, slapd: Slapd) -> None:
    authenticator = make()
    assert await sign_in(authenticator, "ada", "wrong") is None
    assert await sign_in(authenticator, "nobody-of-that-name") is None
    locked = await refused(authenticator, "locked")
    not_allowed = await refused(authenticator, "eve")
    await slapd.stop()
    down = await refused(authenticator, "ada")
    assert (locked[0], not_allowed[0], down[0]) == (403, 403, 503)
    assert "locked" in locked[1]
    assert "not open to you" in not_allowed[1]
    assert "try again" in down[1]
    assert "ada-secret" not in down[1]


async def test_a_form_without_its_fields(make: Make) -> None:
    with pytest.raises(web.HTTPError, match="400"):
        await make().get_authenticated_user(None, {"username": "ada"})


ALLOW = [
    # allowed_groups, allowed_users, admin_users, allow_all, blocked_users → who gets in
    (set(), set(), set(), False, set(), {"boss"}),  # members of admin groups may sign in
    ({"lab"}, set(), set(), False, set(), {"ada", "boss"}),
    (set(), {"eve"}, set(), False, set(), {"eve", "boss"}),
    (set(), set(), {"eve"}, False, set(), {"eve", "boss"}),
    (set(), set(), set(), True, set(), {"ada", "boss", "eve"}),
    ({"lab"}, {"eve"}, set(), True, {"ada", "eve"}, {"boss"}),  # deny beats allow
    ({"LAB", "la", "labor"}, set(), set(), False, set(), {"boss"}),  # a group's name is its whole name
]


@pytest.mark.parametrize(("groups", "users", "admins", "everybody", "blocked", "expected"), ALLOW)
async def test_who_is_let_in(
    make: Make,
    groups: set[str],
    users: set[str],
    admins: set[str],
    everybody: bool,
    blocked: set[str],
    expected: set[str],
) -> None:
    authenticator = make(
        allowed_groups=groups, allowed_users=users, admin_users=admins, allow_all=everybody, blocked_users=blocked
    )
    inside = set()
    for name in ("ada", "boss", "eve"):
        try:
            inside |= {(await sign_in(authenticator, name))["name"]}
        except web.HTTPError as error:
            assert error.status_code == 403  # noqa: PT017
    assert inside == expected


async def test_naming_one_person_does_not_let_in_whoever_was_let_in_once(make: Make) -> None:
    authenticator = make(allowed_users={"eve"}, allowed_groups=set())
    authenticator.add_user(User({"name": "ada", "auth_state": {}}))  # as the hub does for every user it knows
    status, why = await refused(authenticator, "ada")
    assert status == 403
    assert "not open to you" in why


# ---------------------------------------------------------------- later


async def test_who_leaves_the_admin_group_is_none_at_the_next_refresh_and_login(make: Make, slapd: Slapd) -> None:
    authenticator = make()
    boss = User(await sign_in(authenticator, "boss"))
    await slapd.modify(f"dn: cn=operators,ou=groups,{BASE}\nchangetype: modify\ndelete: memberUid\nmemberUid: boss\n")
    for model in (await authenticator.refresh_user(boss), await sign_in(authenticator, "boss")):
        assert isinstance(model, dict)
        assert model["admin"] is False
        assert model["groups"] == ["lab"]


LEAVES = {
    "deleted": f"dn: {PEOPLE['ada'].dn}\nchangetype: delete\n",
    "locked": f"dn: {PEOPLE['ada'].dn}\nchangetype: modify\nadd: pwdAccountLockedTime\n"
    "pwdAccountLockedTime: 000001010000Z\n",
    "not allowed": f"dn: cn=lab,ou=groups,{BASE}\nchangetype: modify\ndelete: memberUid\nmemberUid: ada\n-\n"
    f"replace: gidNumber\ngidNumber: 30009\n",
}


@pytest.mark.parametrize("how", LEAVES)
async def test_who_is_revoked_must_sign_in_again(make: Make, slapd: Slapd, how: str) -> None:
    authenticator = make()
    ada = User(await sign_in(authenticator, "ada"))
    assert isinstance(await authenticator.refresh_user(ada), dict)
    await slapd.modify(LEAVES[how])
    assert await authenticator.refresh_user(ada) is False


async def test_an_unreachable_directory_takes_nothing_from_who_is_signed_in(make: Make, slapd: Slapd) -> None:
    authenticator = make()
    ada = User(await sign_in(authenticator, "ada"))
    await slapd.stop()
    assert await authenticator.refresh_user(ada) is True
    with pytest.raises(DirectoryUnavailable):
        await authenticator.fresh_identity(Identity("ldap:ldap", "x", "ada"))


async def test_a_renamed_person_keeps_her_hub_user_and_her_account_goes_by_the_new_name(
    make: Make, slapd: Slapd
) -> None:
    authenticator = make()
    bob = User(await sign_in(authenticator, "bob"))
    await slapd.modify(f"dn: {PEOPLE['bob'].dn}\nchangetype: modrdn\nnewrdn: uid=bert\ndeleteoldrdn: 1\n")
    await slapd.modify(f"dn: cn=lab,ou=groups,{BASE}\nchangetype: modify\nadd: memberUid\nmemberUid: bert\n")
    model = await authenticator.refresh_user(bob)
    assert isinstance(model, dict)
    assert model["name"] == "bob"
    assert model["auth_state"]["daas"]["identity"]["name"] == "bert"


async def test_nothing_is_known_about_identities_of_another_directory(make: Make) -> None:
    authenticator = make()
    ada = await sign_in(authenticator, "ada")
    identity = Identity(**{**ada["auth_state"]["daas"]["identity"], "issuer": "ldap:other"})
    with pytest.raises(DirectoryUnavailable):
        await authenticator.fresh_identity(identity)


async def test_without_a_sign_in_on_record_she_signs_in_again(make: Make) -> None:
    assert await make().refresh_user(User({"name": "ada", "auth_state": None})) is False


# ---------------------------------------------------------------- settings


BAD = [
    ({"allowed_group": {"lab"}}, "allowed_group"),
    ({"server_address": "ldap.site"}, "server_address"),
    ({"server_uris": []}, "server_uris"),
    ({"server_uris": ["ldaps://a", "ldaps://a"]}, "ldaps://a twice"),
    ({"server_uris": ["http://a"]}, "server_uris"),
    ({"server_uris": ["ldaps://a:port"]}, "must be ldaps://host"),
    ({"server_uris": ["ldaps://a/dc=site"]}, "must be ldaps://host"),
    ({"backup_server_uris": ["b"]}, "backup_server_uris"),
    ({"srv_domain": "site test"}, "srv_domain"),
    ({"referral_hosts": {"ldap://other:389"}}, "referral_hosts"),
    ({"user_search_base": ""}, "user_search_base"),
    ({"user_filter": "(uid=*)"}, "user_filter"),
    ({"user_filter": "(uid={username})"}, "user_filter"),
    ({"group_filter": "(member={user})"}, "group_filter"),
    ({"group_filter": "(objectClass=posixGroup)"}, "group_filter"),
    ({"group_condition": "(member={dn})"}, "group_condition"),
    ({"login_attributes": ["mail", "mail)(uid=*"]}, "login_attributes"),
    ({"name_attribute": "uid="}, "name_attribute"),
    ({"bind_password_file": "/nowhere/at/all"}, "bind_password_file"),
    ({"tls_ca_file": "/nowhere/at/all"}, "tls_ca_file"),
]


@pytest.mark.parametrize(("setting", "named"), BAD)
def test_settings_that_cannot_work_refuse_to_start(make: Make, setting: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make(**setting)


async def test_plaintext_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    make(allow_plaintext=True)
    assert "without TLS" in caplog.text


def test_a_kind_of_directory_that_does_not_exist_refuses_to_start(make: Make) -> None:
    assert make(flavour="rfc2307bis").directory.settings.nested_groups == "member"
    with pytest.raises(TraitError, match="flavour"):
        make(flavour="edirectory")
