"""The way to the provider: certificates are verified, nothing lasts for ever, and strangers cost no memory."""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daas_hub.auth.oidc_states import LASTS_S, MAX_TABS, MAX_USED, PREFIX, Pending, States
from daas_hub.core.errors import ProviderUnavailable
from tests.contracts.oidc_rig import CALLBACK, Rig
from tests.servers.evil_provider import EvilProvider
from tests.servers.slapd import certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA and a certificate for 127.0.0.1 and localhost; a second CA that signed nothing."""
    folder: Path = tmp_path_factory.mktemp("tls")
    certificates(folder)
    other = folder / "other"
    other.mkdir()
    certificates(other)
    return folder


@pytest.mark.parametrize(
    ("ca", "host", "good"),
    [
        ("ca.pem", "127.0.0.1", True),
        ("ca.pem", "localhost", True),
        ("ca.pem", "127.0.0.2", False),
        ("other/ca.pem", "127.0.0.1", False),
        (None, "127.0.0.1", False),
    ],
)
async def test_certificates(certificate: Path, tmp_path: Path, ca: str | None, host: str, good: bool) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "server.pem", certificate / "server.key")
    provider = await EvilProvider(tls=tls, name=host, address=host).start()
    try:
        rig = Rig(provider, tmp_path, tls_ca_file=str(certificate / ca) if ca else None, allow_plaintext=False)
        if good:
            assert (await rig.sign_in()).name
        else:
            with pytest.raises(ProviderUnavailable) as error:
                await rig.sign_in()
            assert error.value.reason == "provider_connection"
            assert sum(provider.calls.values()) == 0
    finally:
        await provider.stop()


@pytest.mark.parametrize("fault", ["hang", "drip", "huge", "garbage", 500])
@pytest.mark.parametrize("place", [".well-known/openid-configuration", "keys", "token", "userinfo"])
async def test_a_sign_in_ends_whatever_the_provider_does(tmp_path: Path, place: str, fault: Any) -> None:
    provider = await EvilProvider(faults={place: fault}).start()
    try:
        rig = Rig(provider, tmp_path, answer_within_s=0.3)
        with pytest.raises(ProviderUnavailable):
            await rig.sign_in()
        assert provider.calls[place] >= 1
    finally:
        await provider.stop()


async def test_many_who_come_while_it_hangs_ask_once(tmp_path: Path) -> None:
    provider = await EvilProvider(faults={".well-known/openid-configuration": "hang"}).start()
    try:
        rig = Rig(provider, tmp_path, answer_within_s=0.3)
        for _ in range(20):
            with pytest.raises(ProviderUnavailable):
                await rig.sign_in()
        assert provider.calls[".well-known/openid-configuration"] == 1
    finally:
        await provider.stop()


class Request:
    """As much of a request as states are kept by; its signature is what the test says."""

    def __init__(self) -> None:
        self.request = SimpleNamespace(cookies={})
        self.hub = SimpleNamespace(base_url="/hub/", cookie_name="jupyterhub-hub-login")
        self.signed: dict[str, str] = {}

    def get_secure_cookie(self, name: str, max_age_days: float) -> str | None:
        assert max_age_days == LASTS_S / 86400
        return self.signed.get(name)

    def _set_cookie(self, name: str, value: str, **_options: Any) -> None:
        self.signed[name] = value
        self.request.cookies[name] = value

    def clear_cookie(self, name: str, **_options: Any) -> None:
        self.request.cookies.pop(name, None)


def test_states_of_strangers_cost_no_memory() -> None:
    states, request = States(""), Request()
    for _ in range(10_000):
        assert states.take(request, secrets.token_urlsafe(8)) is None
    assert not states._used


def test_states_that_were_used_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daas_hub.auth.oidc_states.MAX_USED", 100)
    assert MAX_USED == 100_000
    states, request = States(""), Request()
    for _ in range(300):
        pending = Pending("", CALLBACK)
        states.remember(request, pending)
        assert states.take(request, pending.state) == pending
        assert states.take(request, pending.state) is None
    assert len(states._used) == 100


def test_a_cookie_of_one_way_is_none_of_anothers() -> None:
    request, pending = Request(), Pending("", CALLBACK)
    States("keycloak").remember(request, pending)
    assert States("gitlab").take(request, pending.state) is None
    assert States("keycloak").take(request, pending.state) == pending


def test_no_other_host_can_set_it_where_the_hub_protects_its_cookies() -> None:
    request, pending = Request(), Pending("", CALLBACK)
    request.hub.cookie_name = "__Host-jupyterhub-hub-login"
    states = States("")
    for _ in range(MAX_TABS + 3):
        states.remember(request, Pending("", CALLBACK))
    states.remember(request, pending)
    assert len(request.request.cookies) == MAX_TABS
    assert all(name.startswith(f"__Host-{PREFIX}") for name in request.request.cookies)
    assert states.take(request, pending.state) == pending


def test_ten_minutes() -> None:
    request, late = Request(), Pending("", CALLBACK, begun_at=0.0)
    states = States("")
    states.remember(request, late)
    assert states.take(request, late.state) is None
