"""DaasOIDCAuthenticator with a certified provider: a day of its clock, reuse, revocation, outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tornado.httputil import url_concat
from traitlets.config import Config

from daas_hub.auth.oidc import DaasOIDCAuthenticator
from daas_hub.auth.oidc_states import Pending
from daas_hub.core.errors import SessionRevoked
from tests.contracts.oidc_rig import CALLBACK, Hub, HubUser, is_active
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.oidc_provider import OidcProvider

pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(240)]
"""The provider is installed by npm the first time."""


class Site:
    """An authenticator and its provider, whose clocks move together."""

    def __init__(self, provider: OidcProvider, secret: Path) -> None:
        secret.write_text(SECRET)
        self.provider = provider
        self.ahead_s = 0
        settings = {
            "issuer": provider.issuer,
            "client_id": CLIENT,
            "client_secret_file": str(secret),
            "allow_plaintext": True,
            "allowed_groups": {"lab"},
            "oauth_callback_url": CALLBACK,
        }
        self.authenticator = DaasOIDCAuthenticator(config=Config({"DaasOIDCAuthenticator": settings}))
        self.authenticator.now = lambda: datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def later(self, seconds: int) -> None:
        self.ahead_s += seconds
        self.provider.control(ahead_s=seconds)

    async def sign_in(self) -> HubUser:
        pending = Pending(next_url="", redirect_uri=CALLBACK)
        endpoint = (await self.authenticator.provider.metadata())["authorization_endpoint"]
        back = await self.provider.approve(url_concat(endpoint, self.authenticator.authorize_params(pending)))
        said = parse_qs(urlsplit(back).query)
        assert said["state"] == [pending.state]
        data = {"way": "", "code": said["code"][0], "pending": pending}
        return HubUser(await self.authenticator.get_authenticated_user(Hub(), data))

    async def tokens(self, user: HubUser) -> dict[str, Any]:
        found: dict[str, Any] = (await user.get_auth_state())["daas"]["tokens"]
        return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    provider = await OidcProvider(tmp_path, CALLBACK).start()
    yield Site(provider, tmp_path / "secret")
    await provider.stop()


async def test_a_day_of_five_minutes_each(site: Site) -> None:
    """Tokens end after ten minutes, refresh tokens are good once and for eight hours: nobody has to sign in again."""
    user = await site.sign_in()
    seen = {(await site.tokens(user))["refresh_token"]}
    for _ in range(24 * 12):
        site.later(300)
        answers = await asyncio.gather(*(site.authenticator.refresh_user(user) for _ in range(3)))
        assert all(isinstance(answer, dict) for answer in answers), answers
        seen.add((await site.tokens(user))["refresh_token"])
    assert len(seen) == 24 * 12 + 1


async def test_a_second_use_ends_it_and_so_must_never_be_ours(site: Site) -> None:
    user = await site.sign_in()
    stolen = (await site.tokens(user))["refresh_token"]
    assert isinstance(await site.authenticator.refresh_user(user), dict)
    with pytest.raises(SessionRevoked):
        await site.authenticator.provider.refresh(stolen)
    assert await site.authenticator.refresh_user(user) is False


async def test_ended_at_the_provider(site: Site) -> None:
    user = await site.sign_in()
    token = (await site.tokens(user))["refresh_token"]
    assert await is_active(site.authenticator.provider, token) is True
    await site.authenticator.end(user)
    assert await is_active(site.authenticator.provider, token) is False
    assert await site.authenticator.refresh_user(user) is False


async def test_too_long_away(site: Site) -> None:
    user = await site.sign_in()
    site.later(9 * 3600)
    assert await site.authenticator.refresh_user(user) is False


async def test_who_is_gone_there_is_gone_here(site: Site) -> None:
    user = await site.sign_in()
    site.provider.control(gone="")
    assert await site.authenticator.refresh_user(user) is False


async def test_an_outage_ends_nothing(site: Site) -> None:
    user = await site.sign_in()
    before = await site.tokens(user)
    await site.provider.stop()
    assert await site.authenticator.refresh_user(user) is True
    assert await site.tokens(user) == before
