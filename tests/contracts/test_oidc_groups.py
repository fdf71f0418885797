"""Groups of the site for people of an identity provider: at the sign-in, at a refresh, and without a ledger."""

from __future__ import annotations

import pytest
from tornado import web

from daas_hub.auth.common import site_groups
from daas_hub.core.errors import LedgerBusy
from daas_hub.core.groups import SiteGroups
from daas_hub.core.models import Identity
from tests.contracts.oidc_rig import Rig

from .test_oidc_people import rig

__all__ = ["rig"]


async def test_local_groups_count_beside_the_providers(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[SiteGroups | Exception] = [SiteGroups(local=("guests",), projects=("p-1",))]
    asked: list[tuple[str, str, tuple[str, ...]]] = []

    async def ask(identity: Identity) -> SiteGroups:
        asked.append((identity.issuer, identity.subject, tuple(identity.groups)))
        if isinstance(answers[-1], Exception):
            raise answers[-1]
        return answers[-1]

    monkeypatch.setattr(site_groups, "ask", ask)
    rig.make(allow_all=False, allowed_groups={"guests"}, admin_groups={"p-1"})
    user = await rig.sign_in("1")
    model = await rig.authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert (model["groups"], model["admin"]) == (["guests", "lab", "p-1"], True)
    # Each time the provider's groups alone are asked about and stored.
    assert asked == [(rig.authenticator.issuer, "1", ("lab",))] * 2
    assert tuple(model["auth_state"]["daas"]["identity"]["groups"]) == ("lab",)
    answers.append(SiteGroups(local=("guests",)))
    model = await rig.authenticator.refresh_user(user)
    assert isinstance(model, dict)
    assert (model["groups"], model["admin"]) == (["guests", "lab"], False)
    answers.append(LedgerBusy("The ledger is busy. Try again.", retry_after_s=5))
    assert await rig.authenticator.refresh_user(user) is True
    with pytest.raises(web.HTTPError) as error:
        await rig.sign_in("2")
    assert error.value.status_code == 503
    answers.append(SiteGroups())
    assert await rig.authenticator.refresh_user(user) is False
