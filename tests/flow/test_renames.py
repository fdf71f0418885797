"""Users are renamed while servers run: what is judged is what is stopped, and nobody sees another one's data."""

from __future__ import annotations

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(180)]

MAX_AGE_S = 20
RULES = f"""
c.Culler.read_ledger_every_s = 1
c.Reconciler.every_s = 2
c.Culler.rules = [{{"name": "short", "users": ["ada"], "max_age_s": {MAX_AGE_S}}}]
"""


async def rename(site: Site, old: str, new: str) -> None:
    status, answer = await site.hub.api("PATCH", f"users/{old}", {"name": new})
    assert status == 200, answer


def row_of(site: Site, launch_id: str) -> LaunchRow:
    return next(row for row in site.launches() if row.id == launch_id)


async def test_the_launch_that_was_judged_is_stopped_whoever_has_the_name_now() -> None:
    site = Site(proxy=False, cmd=list(program(reachable_python())), more=RULES)
    try:
        await site.start()
        await site.sign_in("ada")
        await site.sign_in("bob")
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        [judged] = site.launches()
        await rename(site, "ada", "oldada")
        ledger = site.ledger()
        try:
            # Written right after the answer, off the loop.
            account = await until(lambda: ledger.accounts.by_user_name("oldada"), what="the ledger has the new name")
            assert account.id == judged.account_id
            # On every page: the name alone shows nobody another one's launches.
            assert ledger.accounts.by_user_name("ada") is None
        finally:
            ledger.close()
        assert (await site.hub.start_server("bob"))[0] in (201, 202)
        [other] = [row for row in site.launches() if row.id != judged.id]
        kept = site.servers("bob")
        assert kept
        await until(
            lambda: row_of(site, judged.id).state is LaunchState.ENDED,
            within_s=MAX_AGE_S + 30,
            every_s=0.2,
            what="the launch that was too old has ended",
        )
        ended = row_of(site, judged.id)
        assert (ended.target_by, ended.reason) == ("culler", ended.target_reason)
        assert ended.reason.endswith("(rule short)")
        assert not site.servers("ada")
        assert row_of(site, other.id).state is LaunchState.RUNNING
        assert site.servers("bob") == kept

        async def forgotten() -> bool:
            model = await site.hub.server("oldada")
            return model is None or bool(model["stopped"])

        await until(forgotten, what="the hub knows that it ended")
        await rename(site, "bob", "ada")
        assert site.servers("bob") == kept
        assert row_of(site, other.id).state is LaunchState.RUNNING
    finally:
        await site.stop()


async def test_nobody_else_gets_a_name_while_a_server_lets_it_in() -> None:
    """A server asks the hub for a name at its door, so that whoever has her old one would get in as her."""
    site = Site(proxy=False, cmd=list(program(reachable_python())))
    try:
        await site.start()
        await site.sign_in("ada")
        await site.sign_in("bob")
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        await rename(site, "ada", "adele")
        status, answer = await site.hub.api("PATCH", "users/bob", {"name": "ada"})
        assert status == 409
        assert "The name ada is still taken" in answer["message"]
        assert (await site.hub.api("GET", "users/bob"))[0] == 200

        # The directory calls her so, too, and somebody else ada: her password is right, her account is another one.
        for name, new in (("ada", "adele"), ("bob", "ada")):
            change = f"changetype: modrdn\nnewrdn: uid={new}\ndeleteoldrdn: 1\n"
            await site.slapd.modify(f"dn: {site.person(name).dn}\n{change}")
        status, page = await site.login_answer("ada", site.person("bob").password)
        assert status == 409
        assert "The name ada is still taken" in page
        assert (await site.hub.api("GET", "users/ada"))[0] == 404
        # She herself is kept from nothing, by neither name.
        assert (await site.login_answer("adele", site.person("ada").password))[0] == 200
        await rename(site, "adele", "ada")
        await rename(site, "ada", "adele")

        await site.hub.stop_server("users/adele/server")
        assert (await site.login_answer("ada", site.person("bob").password))[0] == 200
    finally:
        await site.stop()
