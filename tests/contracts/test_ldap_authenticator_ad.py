"""DaasLDAPAuthenticator with the preset for Active Directory on a real one (Samba): sign-in, limits, the look later."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from traitlets.config import Config

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from daas_hub.auth.ldap_told import TOLD
from daas_hub.clients.directory import Verdict
from daas_hub.clients.directory_session import Address, session
from tests.contracts.test_ldap_authenticator import User
from tests.servers.samba import BASE, GROUPS_BASE, LOCKOUT_AFTER, PEOPLE, SERVICE_DN, Samba

pytestmark = pytest.mark.needs("samba")
Make = Callable[..., DaasLDAPAuthenticator]


TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "active-directory.md"


def tutorial() -> dict[str, Any]:
    """The settings of the tutorial, word for word."""
    c = Config()
    for block in re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL):
        exec(block, {"c": c})
    assert c.JupyterHub.authenticator_class == "daas-ldap"
    return dict(c.DaasLDAPAuthenticator)


@pytest.fixture
def make(samba: Samba) -> Make:
    """As the tutorial sets it up, with this domain's names in the place of its own."""

    def make(**more: Any) -> DaasLDAPAuthenticator:
        site = {
            **tutorial(),
            "server_uris": [samba.tls_uri],
            "tls_ca_file": str(samba.ca_file),
            "bind_dn": SERVICE_DN,
            "bind_password_file": str(samba.password_file),
            "user_search_base": BASE,
            "group_search_base": BASE,
            "login_domains": ["SITE", "site.test"],
            "allowed_groups": {"lab", "science", "depth-5"},
            "admin_groups": {"operators"},
        }
        return DaasLDAPAuthenticator(config=Config({"DaasLDAPAuthenticator": {**site, **more}}))

    return make


async def sign_in(authenticator: DaasLDAPAuthenticator, name: str, password: str, address: str = "192.0.2.1") -> Any:
    handler = SimpleNamespace(request=SimpleNamespace(remote_ip=address))
    return await authenticator.get_authenticated_user(handler, {"username": name, "password": password})


async def refused(authenticator: DaasLDAPAuthenticator, name: str, password: str, **more: str) -> web.HTTPError:
    with pytest.raises(web.HTTPError) as error:
        await sign_in(authenticator, name, password, **more)
    return error.value


async def test_groups_in_groups_and_the_primary_group_let_in_and_every_form_is_one_user(make: Make) -> None:
    authenticator = make()
    boss = await sign_in(authenticator, "SITE\\Boss", "boss-secret")
    assert (boss["name"], boss["admin"]) == ("boss", True)
    for name in ("deep", "prima"):
        assert (await sign_in(authenticator, name, f"{name}-secret"))["name"] == name
    names = {
        (await sign_in(authenticator, t, "boss-secret"))["name"] for t in ("boss.test@site.test", "boss@site.test")
    }
    assert names == {"boss"}
    assert (await refused(authenticator, "eve", "eve-secret")).status_code == 403


async def test_each_account_that_is_refused_has_its_own_sentence_after_the_right_password(make: Make) -> None:
    authenticator = make()
    for name, verdict in (
        ("disabled", Verdict.DISABLED),
        ("expired", Verdict.EXPIRED),
        ("mustchange", Verdict.MUST_CHANGE),
    ):
        error = await refused(authenticator, name, f"{name}-secret")
        assert (error.status_code, error.log_message) == (403, TOLD[verdict])
        assert await sign_in(authenticator, name, "wrong") is None
    assert len(set(TOLD.values())) == len(TOLD)


async def test_a_lock_out_reads_as_a_wrong_password(make: Make, samba: Samba, caplog: pytest.LogCaptureFixture) -> None:
    person = PEOPLE["lockedout"]
    with session(Address(uri=samba.tls_uri, ca_file=str(samba.ca_file))) as other:
        for _ in range(LOCKOUT_AFTER):
            assert not other.bind(person.dn, "guessed")
    assert await sign_in(make(), person.name, person.password) is None
    assert "lock-out" in caplog.text


# ---------------------------------------------------------------- attempts


async def test_guessing_stops_before_the_domain_locks_the_account(make: Make, samba: Samba) -> None:
    authenticator = make(attempts_per_name=3)
    dn = PEOPLE["gus"].dn
    before = int(await samba.value(dn, "badPwdCount") or 0)
    for typed in ("gus", "SITE\\gus", "gus.mail@post.test"):
        assert await sign_in(authenticator, typed, "guessed") is None
    for typed in ("gus", "gus@site.test", "gus.test@site.test"):
        error = await refused(authenticator, typed, "gus-secret", address="198.51.100.7")
        assert error.status_code == 429
        assert "was not judged" in (error.log_message or "")
        assert int(vars(error)["headers"]["Retry-After"]) > 0
    assert int(await samba.value(dn, "badPwdCount")) == before + 3
    # Nobody else is kept out, and a name that nobody has is treated alike.
    assert (await sign_in(authenticator, "bob", "bob-secret"))["name"] == "bob"
    for _ in range(3):
        assert await sign_in(authenticator, "nobody-of-that-name", "guessed") is None
    assert (await refused(authenticator, "nobody-of-that-name", "guessed")).status_code == 429


async def test_the_right_password_forgives_and_what_is_refused_for_other_reasons_does_not_count(make: Make) -> None:
    authenticator = make(attempts_per_name=2)
    for _ in range(3):
        assert await sign_in(authenticator, "bob", "wrong") is None
        assert (await sign_in(authenticator, "bob", "bob-secret"))["name"] == "bob"
        assert (await refused(authenticator, "disabled", "disabled-secret")).status_code == 403


async def test_one_address_cannot_try_everybody(make: Make) -> None:
    authenticator = make(attempts_per_address=4)
    for name in ("ada", "bob", "carl", "nobody-of-that-name"):
        assert await sign_in(authenticator, name, "Winter2026") is None
    error = await refused(authenticator, "dora", "Winter2026")
    assert error.status_code == 429
    assert "where you are" in (error.log_message or "")
    assert (await sign_in(authenticator, "bob", "bob-secret", "198.51.100.7"))["name"] == "bob"


# ---------------------------------------------------------------- later


@pytest.fixture
async def bob(make: Make) -> tuple[DaasLDAPAuthenticator, User]:
    authenticator = make()
    user = User(await sign_in(authenticator, "bob", "bob-secret"))
    assert isinstance(await authenticator.refresh_user(user), dict)
    return authenticator, user


Bob = tuple[DaasLDAPAuthenticator, User]


async def change(samba: Samba, attribute: str, value: str) -> None:
    await samba.modify(f"dn: {PEOPLE['bob'].dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n")


@pytest.mark.parametrize(
    ("attribute", "value", "normal"),
    [("userAccountControl", "514", "512"), ("accountExpires", "116444736000000000", "0")],
    ids=["disabled", "expired"],
)
async def test_a_look_later_sees_who_may_not_be_here_any_more(
    samba: Samba, bob: Bob, attribute: str, value: str, normal: str
) -> None:
    authenticator, user = bob
    await change(samba, attribute, value)
    try:
        assert await authenticator.refresh_user(user) is False
    finally:
        await change(samba, attribute, normal)
    assert isinstance(await authenticator.refresh_user(user), dict)


async def test_a_password_that_must_be_changed_takes_nothing_from_who_is_signed_in(samba: Samba, bob: Bob) -> None:
    authenticator, user = bob
    await change(samba, "pwdLastSet", "0")
    try:
        assert isinstance(await authenticator.refresh_user(user), dict)
    finally:
        await change(samba, "pwdLastSet", "-1")


@pytest.mark.parametrize("group", ["lab", "depth-1"])
async def test_a_look_later_sees_groups_as_they_are_now(samba: Samba, make: Make, group: str) -> None:
    name = "carl" if group == "lab" else "deep"
    authenticator, dn = make(), PEOPLE[name].dn
    user = User(await sign_in(authenticator, name, f"{name}-secret"))
    change = f"dn: CN={group},{GROUPS_BASE}\nchangetype: modify\n{{0}}: member\nmember: {dn}\n"
    await samba.modify(change.format("delete"))
    try:
        assert await authenticator.refresh_user(user) is False
    finally:
        await samba.modify(change.format("add"))
    model = await authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert group in model["groups"]


async def test_a_look_later_keeps_the_user_of_who_is_renamed(samba: Samba, bob: Bob) -> None:
    authenticator, user = bob
    await change(samba, "sAMAccountName", "bert")
    try:
        model = await authenticator.refresh_user(user)
        assert isinstance(model, dict)
        assert model["name"] == "bob"
        assert model["auth_state"]["daas"]["identity"]["name"] == "bert"
        # Rights are the hub user's, not those of whoever is called so in the configuration.
        authenticator.admin_users = {"bert"}
        assert (await authenticator.refresh_user(user))["admin"] is False  # type: ignore[index]
    finally:
        await change(samba, "sAMAccountName", "bob")


# ---------------------------------------------------------------- settings


def test_the_tutorial_sets_what_must_be_replaced_and_the_preset() -> None:
    said = tutorial()
    assert said.pop("flavour") == "ad"
    assert set(said) == {
        "server_uris",
        "tls_ca_file",
        "bind_dn",
        "bind_password_file",
        "user_search_base",
        "group_search_base",
        "login_domains",
        "allowed_groups",
        "admin_groups",
    }


def test_a_preset_is_a_default_and_each_setting_counts_by_itself(make: Make) -> None:
    preset = make().directory.settings
    assert (preset.name_attribute, preset.nested_groups, preset.home_attribute) == (
        "sAMAccountName",
        "token_groups",
        "unixHomeDirectory",
    )
    other = make(nested_groups="in_chain", login_attributes=[], home_attribute="homeDirectory").directory.settings
    assert (other.nested_groups, other.login_attributes, other.home_attribute) == ("in_chain", (), "homeDirectory")
    assert other.user_filter == preset.user_filter
