"""One form of each name on every way in: the hub's checks never see another spelling, on either side."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from jupyterhub.auth import Authenticator
from traitlets.config import Config

from daas_hub.auth.ldap import DaasLDAPAuthenticator
from daas_hub.auth.oidc import DaasOIDCAuthenticator
from daas_hub.core.errors import ConfigError
from daas_hub.core.models import Identity
from daas_hub.core.naming import login_name, unusable

LDAP = {"server_uris": ["ldaps://nowhere.test"], "user_search_base": "dc=site"}
WAYS: dict[str, Callable[..., Authenticator]] = {
    "ldap": lambda **more: DaasLDAPAuthenticator(config=Config({"DaasLDAPAuthenticator": {**LDAP, **more}})),
    "oidc": lambda **more: DaasOIDCAuthenticator(
        config=Config({"DaasOIDCAuthenticator": {"issuer": "https://idp.site", "client_id": "daas", **more}})
    ),
}
SAME = ["admin", "ADMIN", " admin", "admin ", "ａｄｍｉｎ", "Ａｄｍｉｎ", "ⓐdmin"]
"""What is `admin` in another spelling: case, blanks, full-width and circled letters (NFKC)."""
NOBODY = ["SITE\\" * 10**5, "admin\n", "\nadmin", "adm\tin", "admin\0", "adm\u200bin", "аdmin", "ådmin", "admın", "",
          " ", ".", "..", "a/b", "a..b", "%2e%2e", "-admin", "admin'", "x" * 65, "x" * 10**6, "ａ" * 10**6]  # fmt: skip
"""Look-alikes and what is no name: line breaks, NUL, an invisible blank, Cyrillic а, a dotless ı, parts of paths."""

every_way = pytest.mark.parametrize("way", WAYS)


@every_way
@pytest.mark.parametrize("setting", ["admin_users", "allowed_users", "blocked_users"])
@pytest.mark.parametrize("name", SAME)
def test_settings_have_the_one_form(way: str, setting: str, name: str) -> None:
    """JupyterHub itself compares `blocked_users` as they were written."""
    assert getattr(WAYS[way](**{setting: {name}}), setting) == {"admin"}


@every_way
@pytest.mark.parametrize("setting", ["admin_users", "allowed_users", "blocked_users", "username_map"])
@pytest.mark.parametrize("name", ["аdmin", "admin\n", "", "x" * 10**6], ids=["cyrillic", "newline", "empty", "long"])
def test_a_setting_with_a_name_that_nobody_can_have_stops_the_hub(way: str, setting: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} has the name .*nobody can have") as refused:
        WAYS[way](**{setting: {name: "ada"} if setting == "username_map" else {name}})
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


@every_way
@pytest.mark.parametrize("name", SAME)
def test_what_is_typed_or_sent_by_rest_has_the_one_form(way: str, name: str) -> None:
    authenticator = WAYS[way]()
    assert authenticator.normalize_username(name) == "admin"
    assert authenticator.validate_username("admin")


@every_way
def test_what_is_nobodys_name_is_refused_and_short(way: str) -> None:
    authenticator = WAYS[way]()
    given: list[Any] = [*NOBODY, None, 5, ["admin"], {"admin": 1}]
    for name in given:
        made = authenticator.normalize_username(name)
        assert not authenticator.validate_username(made), name
        assert len(made) < 300, name
        assert made.isprintable(), name
    for name in SAME[1:]:
        assert not authenticator.validate_username(name), "only the one form is valid"


@every_way
async def test_whoever_is_blocked_is_so_in_every_spelling_and_under_her_other_name(way: str) -> None:
    authenticator = WAYS[way](blocked_users={"ADA", "ｂob"}, username_map={"Ada": "lovelace"})
    assert authenticator.blocked_users == {"ada", "lovelace", "bob"}
    assert authenticator.normalize_username("ADA") == "lovelace"
    with pytest.raises(ConfigError, match=r"username_map: 'Love' must be written as 'love'"):
        WAYS[way](username_map={"ada": "Love"})


async def test_an_administrator_is_one_by_the_name_that_the_hub_gives_her() -> None:
    """Not by the one that she came with: that may be another one's here."""
    mapped = {"ada": "lovelace", "bob": "ada"}
    authenticator = WAYS["ldap"](admin_users={"Lovelace"}, username_map=mapped, allow_all=True)
    for came, admin in (("ada", True), ("bob", False), ("lovelace", True)):
        model = authenticator.auth_model(Identity("ldap:site", "guid", came))  # type: ignore[attr-defined]
        assert (model["name"], model["admin"]) == (came, admin)


@pytest.mark.parametrize("name", NOBODY)
def test_the_short_form_of_what_is_no_name_is_none_either(name: str) -> None:
    assert login_name(unusable(name)) is None
    assert len(unusable(name)) < 200
    assert unusable(name).isprintable()


@every_way
@pytest.mark.parametrize("name", NOBODY)
async def test_no_check_sees_a_look_alike(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a source of names were to let it through: it is refused before any list is looked at."""
    authenticator = WAYS[way](admin_users={"admin"}, allow_all=True)

    async def source(_handler: Any, _data: Any) -> dict[str, Any]:
        return {"name": name, "groups": [], "auth_state": None, "admin": True}

    monkeypatch.setattr(authenticator, "authenticate", source)
    assert await authenticator.get_authenticated_user(None, {}) is None


async def test_ten_thousand_bad_names_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Names of a million characters, and others; no directory is asked, or this would fail for want of one."""
    authenticator = WAYS["ldap"](attempts_per_address=0)

    async def try_all(rounds: int) -> None:
        for _ in range(rounds):
            for name in NOBODY:
                form = {"username": name, "password": "secret"}
                assert await authenticator.get_authenticated_user(None, form) is None
        caplog.clear()

    await try_all(5)
    tracemalloc.start()
    try:
        await try_all(10)
        before = tracemalloc.get_traced_memory()[0]
        await try_all(10_000 // len(NOBODY))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000, f"{grown} bytes after ten thousand"
