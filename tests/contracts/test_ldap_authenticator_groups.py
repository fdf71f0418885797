"""Groups of the site for an authenticator on a real OpenLDAP: who is let in, as what, and without a ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daas_hub.auth.common import site_groups
from daas_hub.core.errors import LedgerBusy
from daas_hub.core.groups import SiteGroups
from daas_hub.core.models import Identity

from .test_ldap_authenticator import Make, User, make, refused, sign_in

__all__ = ["make"]
pytestmark = pytest.mark.needs("slapd")
Say = Callable[[SiteGroups | Exception], None]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """What the ledger answers from now on."""

    monkeypatch.setattr(site_groups, "_warned", set())

    def say(answer: SiteGroups | Exception) -> None:
        async def ask(_identity: Identity) -> SiteGroups:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(site_groups, "ask", ask)

    return say


async def test_local_groups_and_projects_let_in_and_make_administrators(make: Make, say: Say) -> None:
    authenticator = make(allowed_groups={"guests"}, admin_groups={"p-1"})
    say(SiteGroups())
    assert (await refused(authenticator, "ada"))[0] == 403
    say(SiteGroups(local=("guests",)))
    model = await sign_in(authenticator, "ada")
    assert (model["groups"], model["admin"]) == (["guests", "lab"], False)
    assert tuple(model["auth_state"]["daas"]["identity"]["groups"]) == ("lab",)
    ada = User(model)
    say(SiteGroups(local=("guests",), projects=("p-1",)))
    model = await authenticator.refresh_user(ada)
    assert (model["groups"], model["admin"]) == (["guests", "lab", "p-1"], True)
    say(SiteGroups(local=("guests",)))
    assert (await authenticator.refresh_user(User(model)))["admin"] is False
    say(SiteGroups())
    assert await authenticator.refresh_user(ada) is False


async def test_a_group_of_the_directory_under_a_local_name_makes_nobody_an_administrator(
    make: Make, say: Say, caplog: pytest.LogCaptureFixture
) -> None:
    authenticator = make()
    say(SiteGroups(taken=frozenset({"operators"})))
    model = await sign_in(authenticator, "boss")
    assert (model["groups"], model["admin"]) == (["lab"], False)
    assert "group_name_taken: the directory has a group operators" in caplog.text


async def test_a_ledger_that_does_not_answer_lets_nobody_in_and_takes_nothing(make: Make, say: Say) -> None:
    authenticator = make()
    say(SiteGroups(local=("guests",)))
    ada = User(await sign_in(authenticator, "ada"))
    say(LedgerBusy("The ledger is busy. Try again.", retry_after_s=5))
    assert (await refused(authenticator, "ada"))[0] == 503
    assert await authenticator.refresh_user(ada) is True
