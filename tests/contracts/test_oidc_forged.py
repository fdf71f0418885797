"""Forged tokens, one thing wrong in each: none is accepted, and what a provider truly says is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.auth.oidc_states import Pending
from daas_hub.core.errors import ProviderUnavailable, TokenRefused
from tests.contracts.oidc_rig import CALLBACK, Rig
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import FORGERIES, rsa_key


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    provider = await EvilProvider().start()
    yield Rig(provider, tmp_path)
    await provider.stop()


def an_age_later(rig: Rig, seconds: float) -> None:
    """As if the last look at the keys was so long ago."""
    rig.authenticator.provider._keys_at -= seconds
    rig.authenticator.provider._keys_asked_at -= seconds


async def test_what_is_true_is_accepted(rig: Rig) -> None:
    user = await rig.sign_in()
    state = (await user.get_auth_state())["daas"]
    assert state["came_by"]["issuer"] == rig.provider.issuer
    assert state["came_by"]["subject"] == "1"
    assert state["identity"] == state["came_by"]
    # The label is no name: nobody becomes another one by changing it.
    assert user.name.startswith("u-")
    assert "ada" not in user.name


async def test_no_forged_token_is_accepted(rig: Rig) -> None:
    assert len(FORGERIES) >= 40
    accepted, reasons = [], {}
    for name, forge in FORGERIES.items():
        rig.provider.forge = forge
        try:
            await rig.sign_in()
        except TokenRefused as error:
            reasons[name] = error.reason
        else:
            accepted.append(name)
    assert accepted == []
    # Each for what is wrong with it, not for something else on the way.
    expected = {"iss", "aud", "azp", "sub", "exp", "iat", "nbf", "nonce", "at_hash"}
    wrong = {n: r for n, r in reasons.items() if n.split()[0] in expected and r != n.split()[0]}
    assert wrong == {}
    assert set(reasons.values()) - expected == {"alg", "signature", "kid", "key", "crit", "typ", "form", "size"}
    rig.provider.forge = None
    assert (await rig.sign_in()).name


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"sub": "2"}, "userinfo"), ({"sub": None}, "userinfo"), ({"sub": ["1"]}, "userinfo")],
)
async def test_userinfo_of_another_person(rig: Rig, change: dict[str, Any], reason: str) -> None:
    rig.provider.userinfo_more = change
    with pytest.raises(TokenRefused) as error:
        await rig.sign_in()
    assert error.value.reason == reason


@pytest.mark.parametrize("said", ["http://127.0.0.1:9", "", None, "{issuer}/", "{ISSUER}"])
async def test_discovery_of_another_issuer(rig: Rig, said: str | None) -> None:
    issuer = rig.provider.issuer
    rig.provider.metadata_more = {
        "issuer": said and said.replace("{issuer}", issuer).replace("{ISSUER}", issuer.upper())
    }
    with pytest.raises(ProviderUnavailable, match="cannot be reached") as error:
        await rig.sign_in()
    assert error.value.reason == "provider_issuer"


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "//other/x", "https://a@b/x", 17, "file:///etc/passwd"])
async def test_discovery_with_an_address_that_is_none(rig: Rig, address: Any) -> None:
    rig.provider.metadata_more = {"token_endpoint": address}
    with pytest.raises(ProviderUnavailable):
        await rig.sign_in()
    assert rig.provider.calls["token"] == 0


async def test_keys_change_while_people_are_signed_in(rig: Rig) -> None:
    user = await rig.sign_in()
    an_age_later(rig, 60)
    rig.provider.roll_key()
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert (await rig.sign_in()).name == user.name
    assert rig.provider.calls["keys"] == 2


async def test_a_key_that_is_changed_under_its_old_id(rig: Rig) -> None:
    await rig.sign_in()
    an_age_later(rig, 60)
    rig.provider.spare_key = "second"
    assert (await rig.sign_in()).name


async def test_a_key_that_was_taken_away_is_good_for_an_hour_at_most(rig: Rig) -> None:
    await rig.sign_in()
    rig.provider.roll_key()
    rig.provider.forge = lambda token: (token.header.update(kid="first"), setattr(token, "key", rsa_key("first")))
    assert (await rig.sign_in()).name
    an_age_later(rig, 3601)
    rig.provider.faults = {"keys": 503}
    with pytest.raises(ProviderUnavailable):
        await rig.sign_in()
    with pytest.raises(ProviderUnavailable):
        await rig.sign_in()
    rig.provider.faults = {}
    an_age_later(rig, 60)
    with pytest.raises(TokenRefused) as error:
        await rig.sign_in()
    assert error.value.reason == "kid"


async def test_invented_key_ids_do_not_make_us_ask_for_ever(rig: Rig) -> None:
    await rig.sign_in()
    rig.provider.forge = FORGERIES["an unknown key"]
    for _ in range(20):
        with pytest.raises(TokenRefused):
            await rig.sign_in()
    assert rig.provider.calls["keys"] == 1


@pytest.mark.parametrize(
    ("ago_s", "accepted"), [(0, True), (59, True), (3600, False), (None, False), ("0", False), (True, False)]
)
async def test_to_prove_anew_who_one_is(rig: Rig, ago_s: Any, accepted: bool) -> None:
    """As before links are changed: a provider that still knows her may not just say so."""
    pending = Pending("", CALLBACK, anew=True)
    asked = rig.authenticator.authorize_params(pending)
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    if ago_s is not None:
        number = isinstance(ago_s, int) and not isinstance(ago_s, bool)
        rig.provider.extra_claims = {"auth_time": time.time() - ago_s if number else ago_s}
    if accepted:
        assert (await rig.sign_in(pending=pending)).name
    else:
        with pytest.raises(TokenRefused) as error:
            await rig.sign_in(pending=pending)
        assert error.value.reason == "auth_time"


async def test_a_code_is_worth_nothing_without_its_verifier(rig: Rig) -> None:
    mine, stolen = Pending("", CALLBACK), Pending("", CALLBACK)
    code, _ = rig.provider.begin(
        {"state": "", "nonce": mine.nonce, "code_challenge": stolen.challenge, "redirect_uri": mine.redirect_uri}
    )
    with pytest.raises(TokenRefused) as error:
        await rig.authenticator.get_authenticated_user(rig.hub, {"way": "", "code": code, "pending": mine})
    assert error.value.reason == "code"
