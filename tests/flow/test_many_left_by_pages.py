"""A fault of the directory that spares many of those who are looked at first: all are counted before anybody ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.link_site import LinkSite
from tests.servers.slapd import BASE
from tests.servers.visitor import location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(180)]

PAGE, ALL = 30, 45
OTHER = "o" * 32
LEFT = [*range(0, 24, 2), *range(PAGE, ALL)]
"""Of the first page less than half, of the second page everybody: more than half of all."""
MORE = f"""
from daas_hub.wiring import sweep
sweep.PAGE = {PAGE}
c.JupyterHub.services.append({{"name": "other", "api_token": "{OTHER}"}})
c.JupyterHub.load_roles.append({{"name": "sweeps", "services": ["tests", "other"], "scopes": ["custom:daas:hub"]}})
c.Reconciler.sweep_every_s = 86400
"""
MEMBERS = f"dn: cn=lab,ou=groups,{BASE}\nchangetype: modify\n{{}}: memberUid\n{{}}\n"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LinkSite]:
    made = await LinkSite(tmp_path, MORE).start()
    yield made
    await made.stop()


async def sweep(site: LinkSite, after: int | None = 0, token: str | None = None) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    while after is not None:
        status, counts = await site.hub.api("POST", "daas/sweep", {"after": after}, token=token)
        assert status == 200
        after = counts["next"]
    return counts


async def test_people_who_are_looked_at_first_do_not_stand_for_all(site: LinkSite) -> None:
    names = [f"student{number}" for number in range(ALL)]
    for number, name in enumerate(names):
        await site.slapd.add(
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\n"
            f"cn: {name}\nsn: Test\nuidNumber: {21000 + number}\ngidNumber: 30003\nhomeDirectory: /nowhere/{name}\n"
            f"userPassword: {name}-secret\n"
        )
    await site.slapd.modify(MEMBERS.format("add", "\n".join(f"memberUid: {name}" for name in names)))
    browsers = {name: site.visitor() for name in names}
    for name, browser in browsers.items():
        assert location(await site.password(browser, name)) == "/hub/home"
    # Of two who sweep at once, as two reconcilers for a moment may, each counts for itself.
    _, begun = await site.hub.api("POST", "daas/sweep", {"after": 0})
    assert (await sweep(site, token=OTHER))["looked_at"] == ALL
    assert (await sweep(site, begun["next"]))["looked_at"] == ALL
    gone = [names[number] for number in LEFT]
    await site.slapd.modify(MEMBERS.format("delete", "\n".join(f"memberUid: {name}" for name in gone)))
    counts = await sweep(site)
    assert {name: counts[name] for name in ("looked_at", "ended", "held")} == {
        "looked_at": ALL,
        "ended": 0,
        "held": len(gone),
    }
    assert f"{len(gone)} of {ALL} people seem to have left" in site.hub.log_text()
    # Half of the second page come back: the rest are believed.
    back = gone[-8:]
    await site.slapd.modify(MEMBERS.format("add", "\n".join(f"memberUid: {name}" for name in back)))
    counts = await sweep(site)
    assert {name: counts[name] for name in ("ended", "held")} == {"ended": len(gone) - len(back), "held": 0}
