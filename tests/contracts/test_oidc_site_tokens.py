"""Token exchange at a provider that lies: whose token it is, what no answer is, and that a rotation stays unhurt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.clients.oidc import EXCHANGE
from daas_hub.core.errors import ConfigError, ProviderUnavailable, SessionRevoked, TokenRefused
from tests.contracts.oidc_rig import Rig
from tests.servers.evil_provider import EvilProvider

STORAGE = {"storage": {"audience": "storage", "scope": "read"}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    provider = await EvilProvider().start()
    provider.people["2"] = {"preferred_username": "bob", "groups": ["lab"]}
    yield Rig(provider, tmp_path, site_tokens=STORAGE)
    await provider.stop()


def refreshes(provider: EvilProvider) -> int:
    return provider.grants["refresh_token"]


async def test_each_gets_her_own(rig: Rig) -> None:
    for person in ("1", "2"):
        user = await rig.sign_in(person)
        value, lasts_s = await rig.authenticator.site_token(user, "storage")
        (made,) = [one for one in rig.provider.exchanged if one.value == value]
        assert (made.sub, made.audience, lasts_s) == (person, "storage", 300)
    assert refreshes(rig.provider) == 0, "an access token that is good needs no renewal"


@pytest.mark.parametrize("later_ones_last_s", [300, 0])
async def test_an_old_access_token_is_renewed_by_the_one_renewal(rig: Rig, later_ones_last_s: int) -> None:
    """Twenty tokens and twenty requests of hers at once, with a provider that ends a sign-in at a token's reuse."""
    rig.provider.access_last_s = 0
    user = await rig.sign_in()
    rig.provider.access_last_s = later_ones_last_s
    tokens = [rig.authenticator.site_token(user, "storage") for _ in range(20)]
    requests = [rig.authenticator.refresh_user(user) for _ in range(20)]
    found = await asyncio.gather(*tokens, *requests)
    assert len({one[0] for one in found[:20]}) == 20
    assert all(isinstance(model, dict) for model in found[20:])
    # Where each is old at once, whoever had to wait for a turn renews once more, one after the other.
    assert refreshes(rig.provider) == 1 or later_ones_last_s == 0
    assert rig.provider.reused == 0


async def test_an_access_token_that_the_provider_forgot(rig: Rig) -> None:
    user = await rig.sign_in()
    rig.provider.access_tokens.clear()
    value, _ = await rig.authenticator.site_token(user, "storage")
    assert rig.provider.good(value)
    assert (refreshes(rig.provider), rig.provider.reused) == (1, 0)


@pytest.mark.parametrize("fault", [500, 503, 429, "hang", "drip", "huge", "garbage", "reset"])
async def test_silence_is_no_answer(rig: Rig, fault: Any) -> None:
    user = await rig.sign_in()
    rig.provider.faults = {"exchange": fault}
    with pytest.raises(ProviderUnavailable):
        await rig.authenticator.site_token(user, "storage")
    rig.provider.faults = {}
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert (await rig.authenticator.site_token(user, "storage"))[1] == 300


@pytest.mark.parametrize(
    "more",
    [
        {"expires_in": None},
        {"expires_in": "300"},
        {"expires_in": 0},
        {"expires_in": True},
        {"access_token": None},
        {"access_token": "two\nlines"},
        {"token_type": "N_A"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
    ],
    ids=str,
)
async def test_answers_that_cannot_be_handed_over(rig: Rig, more: dict[str, Any]) -> None:
    user = await rig.sign_in()
    rig.provider.exchange_more = more
    with pytest.raises(ProviderUnavailable) as refused:
        await rig.authenticator.site_token(user, "storage")
    assert not any(secret in refused.value.log_message for secret in rig.provider.secrets_seen)


async def test_a_sign_in_that_is_over_is_asked_for_once(rig: Rig) -> None:
    user = await rig.sign_in()
    rig.provider.end_all()
    with pytest.raises(SessionRevoked, match="Sign in to the hub again"):
        await rig.authenticator.site_token(user, "storage")
    asked = rig.provider.calls["token"]
    with pytest.raises(SessionRevoked):
        await rig.authenticator.site_token(user, "storage")
    assert rig.provider.calls["token"] == asked
    again = await rig.sign_in()
    assert rig.provider.good((await rig.authenticator.site_token(again, "storage"))[0])


async def test_access_that_was_ended_here_needs_another_sign_in(rig: Rig) -> None:
    user = await rig.sign_in()
    await rig.authenticator.site_tokens_over(user)
    with pytest.raises(SessionRevoked):
        await rig.authenticator.site_token(user, "storage")
    assert rig.provider.grants[EXCHANGE] == 0
    assert (await rig.authenticator.site_token(await rig.sign_in(), "storage"))[1] == 300


@pytest.mark.parametrize(
    ("word", "reason", "renewals"),
    [("invalid_target", "invalid_target", 0), ("two\nlines", "error", 0), ("invalid_request", "invalid_request", 1)],
)
async def test_what_the_provider_does_not_give(rig: Rig, word: str, reason: str, renewals: int) -> None:
    """Her sign-in has nothing to do with it; one word only leaves that open, until her access token is a fresh one."""
    user = await rig.sign_in()
    rig.provider.audiences.clear()
    rig.provider.no_audience = word
    with pytest.raises(TokenRefused) as refused:
        await rig.authenticator.site_token(user, "storage")
    assert refused.value.reason == reason
    assert (refreshes(rig.provider), rig.provider.reused) == (renewals, 0)
    assert not any(secret in refused.value.log_message for secret in rig.provider.secrets_seen)
    assert isinstance(await rig.authenticator.refresh_user(user), dict)


async def test_settings_that_cannot_work_stop_the_start(rig: Rig) -> None:
    with pytest.raises(ConfigError, match=r"site_tokens has the name '\.\./storage'"):
        rig.make(site_tokens={"../storage": {"audience": "storage"}})
