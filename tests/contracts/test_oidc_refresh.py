"""Refresh: one question for many requests, tokens that rotate are never used twice, and silence ends nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daas_hub.core.errors import ProviderUnavailable
from tests.contracts.oidc_rig import HubUser, Rig, is_active
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import FORGERIES

ROUNDS_OF_A_DAY = 24 * 60 // 5
"""``auth_refresh_age`` is 300 s."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    provider = await EvilProvider().start()
    yield Rig(provider, tmp_path)
    await provider.stop()


async def refresh_token(user: HubUser) -> str:
    return str((await user.get_auth_state())["daas"]["tokens"]["refresh_token"])


async def test_fifty_requests_are_one_question(rig: Rig) -> None:
    user = await rig.sign_in()
    rig.provider.calls.clear()
    models = await asyncio.gather(*(rig.authenticator.refresh_user(user) for _ in range(50)))
    assert sum(rig.provider.calls.values()) == 1
    assert all(model == models[0] for model in models)
    assert models[0]["name"] == user.name
    assert rig.provider.reused == 0


async def test_a_day_of_rotation_ends_nobodys_sign_in(rig: Rig) -> None:
    """Several requests at a time, faults in between, and a hub that writes late what it got before."""
    chance = random.Random(20)
    user = await rig.sign_in()
    faults = {"token": 0}
    late: dict[str, Any] | None = None
    for _ in range(ROUNDS_OF_A_DAY):
        fault = chance.choice([None, None, None, 500, 503, 429, "garbage", "reset"])
        rig.provider.faults = {"token": fault} if fault else {}
        faults["token"] += fault is not None
        answers = await asyncio.gather(*(rig.authenticator.refresh_user(user) for _ in range(chance.randint(1, 5))))
        assert False not in answers
        if fault is not None:
            assert answers[0] is True
            continue
        if late is not None and chance.random() < 0.5:
            # A slow request of the round before: its save comes after the newer one.
            await user.save_auth_state(late)
        late = answers[0]["auth_state"]
    rig.provider.faults = {}
    assert faults["token"] > 50
    assert rig.provider.reused == 0
    assert isinstance(await rig.authenticator.refresh_user(user), dict)


async def test_a_request_that_is_given_up_loses_no_token(rig: Rig) -> None:
    user = await rig.sign_in()
    before = await refresh_token(user)
    request = asyncio.ensure_future(rig.authenticator.refresh_user(user))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    # Whoever comes next joins what was begun, or begins anew with what it left.
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert await refresh_token(user) != before
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert rig.provider.reused == 0


@pytest.mark.parametrize("fault", [500, 502, 401, 403, 404, 302, "garbage", "reset", "huge", "hang", "drip"])
async def test_silence_and_nonsense_end_nothing(rig: Rig, fault: Any) -> None:
    user = await rig.sign_in()
    before = await refresh_token(user)
    rig.provider.faults = {"token": fault}
    assert await rig.authenticator.refresh_user(user) is True
    assert await refresh_token(user) == before
    rig.provider.faults = {}
    assert isinstance(await rig.authenticator.refresh_user(user), dict)


async def test_a_provider_that_is_gone_ends_nothing_and_lets_nobody_in(rig: Rig) -> None:
    user = await rig.sign_in()
    await rig.provider.stop()
    assert await rig.authenticator.refresh_user(user) is True
    with pytest.raises(ProviderUnavailable):
        await rig.sign_in()


async def test_a_client_that_is_refused_is_not_a_person_who_is(rig: Rig) -> None:
    """Somebody changed the client's secret at the provider: nobody's sign-in is over for that."""
    user = await rig.sign_in()
    rig.secret.write_text("another")
    assert await rig.make().refresh_user(user) is True


async def test_revoked_is_over(rig: Rig) -> None:
    user = await rig.sign_in()
    await rig.authenticator.provider.revoke(await refresh_token(user))
    assert await is_active(rig.authenticator.provider, await refresh_token(user)) is False
    assert await rig.authenticator.refresh_user(user) is False


async def test_what_ended_before_a_new_sign_in_does_not_end_that(rig: Rig) -> None:
    user = await rig.sign_in()
    await rig.authenticator.provider.revoke(await refresh_token(user))
    again = await rig.sign_in()
    old_state = await user.get_auth_state()

    class MeanwhileSignedIn(HubUser):
        states = iter([old_state])

        async def get_auth_state(self) -> Any:
            return next(self.states, None) or await super().get_auth_state()

    assert await rig.authenticator.refresh_user(MeanwhileSignedIn(again.model)) is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("forgery", ["another's key", "iss another", "sub missing", "exp past", "at_hash whole"])
async def test_a_forged_answer_changes_nothing_but_the_tokens(rig: Rig, forgery: str) -> None:
    user = await rig.sign_in()
    before = await refresh_token(user)
    rig.provider.forge = FORGERIES[forgery]
    assert await rig.authenticator.refresh_user(user) is True
    # The old refresh token is spent, whatever came along with the new one.
    assert await refresh_token(user) != before
    rig.provider.forge = None
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    assert rig.provider.reused == 0


async def test_an_answer_about_another_person_is_none(rig: Rig) -> None:
    rig.provider.people["2"] = {"groups": ["lab", "operators"]}
    user = await rig.sign_in()
    for grant in rig.provider.refresh_tokens.values():
        grant.sub = "2"
    assert await rig.authenticator.refresh_user(user) is True


async def test_groups_rights_and_demotion(rig: Rig) -> None:
    rig.provider.people["1"]["groups"] = ["lab", "operators"]
    rig.make(admin_groups={"operators"}, blocked_groups={"left"})
    user = await rig.sign_in()
    assert user.model["admin"] is True  # type: ignore[attr-defined]
    rig.provider.people["1"]["groups"] = ["lab"]
    model = await rig.authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert (model["admin"], model["groups"]) == (False, ["lab"])
    del rig.provider.people["1"]["groups"]
    assert await rig.authenticator.refresh_user(user) is True  # not clear: as she was
    rig.provider.people["1"]["groups"] = ["lab", "left"]
    assert await rig.authenticator.refresh_user(user) is False
    rig.provider.people["1"]["groups"] = []
    assert await rig.authenticator.refresh_user(user) is False


async def test_the_last_group_can_be_taken_where_the_claim_goes_with_it(rig: Rig) -> None:
    """As Keycloak and Entra ID: somebody in no group has no claim."""
    rig.make(preset="keycloak")
    user = await rig.sign_in()
    del rig.provider.people["1"]["groups"]
    assert await rig.authenticator.refresh_user(user) is False


async def test_groups_that_only_userinfo_has_are_asked_for(rig: Rig) -> None:
    rig.provider.id_token_at_refresh = False
    user = await rig.sign_in()
    rig.provider.people["1"]["groups"] = ["lab", "beam"]
    rig.provider.calls.clear()
    model = await rig.authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert model["groups"] == ["beam", "lab"]
    assert dict(rig.provider.calls) == {"token": 1, "userinfo": 1}


async def test_without_a_refresh_token_the_access_token_counts(rig: Rig) -> None:
    rig.provider.gives_refresh_token = False
    user = await rig.sign_in()
    assert isinstance(await rig.authenticator.refresh_user(user), dict)
    rig.provider.faults = {"userinfo": 503}
    assert await rig.authenticator.refresh_user(user) is True
    rig.provider.faults = {}
    rig.provider.access_tokens.clear()
    assert await rig.authenticator.refresh_user(user) is False


async def test_another_providers_sign_in_is_none_of_ours(rig: Rig) -> None:
    user = await rig.sign_in()
    state = await user.get_auth_state()
    state["daas"]["came_by"]["issuer"] = "https://elsewhere"
    await user.save_auth_state(state)
    assert await rig.authenticator.refresh_user(user) is False
    await user.save_auth_state({})
    assert await rig.authenticator.refresh_user(user) is False
