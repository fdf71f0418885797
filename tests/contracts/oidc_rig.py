"""What tests of DaasOIDCAuthenticator share: a provider that lies when asked to, an authenticator, a browser's part."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from traitlets.config import Config

from daas_hub.auth.oidc import DaasOIDCAuthenticator
from daas_hub.auth.oidc_states import Pending
from daas_hub.clients.oidc import Provider
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT, SECRET

CALLBACK = "http://hub.test/hub/oauth_callback"


class HubUser:
    """A hub user as the authenticator sees her: her state goes through JSON, as in the hub's database."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.name = model["name"]
        self.encrypted_auth_state = json.dumps(model["auth_state"])
        self.saved = 0

    async def get_auth_state(self) -> Any:
        return json.loads(self.encrypted_auth_state)

    async def save_auth_state(self, state: Any) -> None:
        self.saved += 1
        self.encrypted_auth_state = json.dumps(state)


class Hub:
    """What the authenticator asks of a request: which users there are."""

    def __init__(self) -> None:
        self.users: dict[str, HubUser] = {}
        self.request = SimpleNamespace(protocol="http", host="hub.test")

    def find_user(self, name: str) -> HubUser | None:
        return self.users.get(name)


class Rig:
    """One hub, one provider."""

    def __init__(self, provider: EvilProvider, folder: Path, **settings: Any) -> None:
        self.provider = provider
        self.hub = Hub()
        self.secret = folder / "client_secret"
        self.secret.write_text(SECRET + "\n")
        self.authenticator = self.make(**settings)

    def make(self, **more: Any) -> DaasOIDCAuthenticator:
        site = {
            "issuer": self.provider.issuer,
            "client_id": CLIENT,
            "client_secret_file": str(self.secret),
            "allow_plaintext": True,
            "allowed_groups": {"lab"},
            "oauth_callback_url": CALLBACK,
            "answer_within_s": 1.0,
        }
        self.authenticator = DaasOIDCAuthenticator(config=Config({"DaasOIDCAuthenticator": {**site, **more}}))
        return self.authenticator

    async def sign_in(self, person: str | None = None, *, pending: Pending | None = None) -> HubUser:
        """A whole sign-in, without the pages; the hub user that comes of it."""
        if person is not None:
            self.provider.person = person
        pending = pending or Pending(next_url="", redirect_uri=CALLBACK)
        code, _ = self.provider.begin(
            {
                "state": pending.state,
                "nonce": pending.nonce,
                "code_challenge": pending.challenge,
                "redirect_uri": CALLBACK,
            }
        )
        model = await self.authenticator.get_authenticated_user(self.hub, {"way": "", "code": code, "pending": pending})
        user = HubUser(model)
        self.hub.users[user.name] = user
        user.model = model  # type: ignore[attr-defined]
        return user


async def is_active(provider: Provider, token: str) -> bool:
    """Whether the provider itself holds a token for good, by introspection (RFC 7662)."""
    metadata = await provider.metadata()
    answer = await provider._post(metadata["introspection_endpoint"], {"token": token})
    active = json.loads(answer.body)["active"]
    assert isinstance(active, bool)
    return active
