"""`daas-hub doctor` asks the provider what a sign-in would ask, and says what would mend it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from traitlets.config import Config

from daas_hub.auth.oidc import DaasOIDCAuthenticator
from daas_hub.cli.doctor_oidc import provider as look
from daas_hub.cli.finding import Finding
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT


@pytest.fixture
async def provider() -> AsyncIterator[EvilProvider]:
    server = await EvilProvider().start()
    yield server
    await server.stop()


async def findings(provider: EvilProvider, **more: Any) -> list[Finding]:
    settings = {"issuer": provider.issuer, "client_id": CLIENT, "allow_plaintext": True, **more}
    config = Config({"DaasOIDCAuthenticator": settings})
    # As the command does: without a loop of its own.
    return await asyncio.to_thread(lambda: list(look(DaasOIDCAuthenticator, config, 5.0)))


async def test_all_is_well(provider: EvilProvider) -> None:
    assert [finding.level for finding in await findings(provider)] == ["ok"]


def _says(**metadata: Any) -> Callable[[EvilProvider], None]:
    return lambda provider: provider.metadata_more.update(metadata)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (_says(issuer="https://other"), "error", "is of the issuer"),
        (_says(id_token_signing_alg_values_supported=["HS256"]), "error", "HS256"),
        (_says(code_challenge_methods_supported=["plain"]), "note", "PKCE"),
        (_says(grant_types_supported=["authorization_code"]), "note", "refresh"),
        (lambda provider: provider.faults.update({"keys": 500}), "error", "keys answers 500"),
        (lambda provider: setattr(provider, "clock_ahead_s", 300), "error", "s behind the provider"),
        (lambda provider: setattr(provider, "clock_ahead_s", -300), "error", "s ahead of the provider"),
    ],
)
async def test_what_is_wrong(
    provider: EvilProvider, change: Callable[[EvilProvider], None], level: str, words: str
) -> None:
    change(provider)
    found = [finding for finding in await findings(provider) if finding.level == level]
    assert len(found) == 1
    assert words in found[0].found
    assert found[0].fix or level == "note"


async def test_a_provider_that_exchanges_no_tokens(provider: EvilProvider) -> None:
    _says(grant_types_supported=["authorization_code", "refresh_token"])(provider)
    assert [finding.level for finding in await findings(provider)] == ["ok"]
    _, found = await findings(provider, site_tokens={"storage": {"audience": "storage"}})
    assert (found.level, "none of storage" in found.found, bool(found.fix)) == ("note", True, True)


async def test_a_provider_that_is_away(provider: EvilProvider) -> None:
    await provider.stop()
    (found,) = await findings(provider)
    assert (found.level, bool(found.fix)) == ("error", True)


def test_nothing_is_asked_where_there_is_no_provider() -> None:
    assert list(look(lambda config: object(), Config(), 1.0)) == []
