"""Pages that only show what is there are open again with the next sign-in: that is an answer, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.link_site import LinkSite
from tests.servers.visitor import Visitor, location

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120)]

MORE = """
c.JupyterHub.load_roles.append({"name": "sweeps", "services": ["tests"], "scopes": ["custom:daas:hub"]})
c.Reconciler.sweep_every_s = 86400
c.DaasHub.identity_good_for_s = 0
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LinkSite]:
    made = await LinkSite(tmp_path, MORE).start()
    yield made
    await made.stop()


async def asked_to_change(who: Visitor) -> int:
    """The answer to a form, whatever is in it."""
    await who.get("/hub/home")
    answer = await who.post("/hub/daas/unlink/1", {})
    assert (answer.body.count(b"Nothing was changed") == 1) == (answer.code == 503)
    return answer.code


async def test_a_sign_in_opens_pages_before_the_next_sweep(site: LinkSite) -> None:
    before, after = site.visitor(), site.visitor()
    assert location(await site.password(before, "ada")) == "/hub/home"
    assert await asked_to_change(before) == 404
    await site.slapd.stop()
    assert (await site.hub.api("POST", "daas/sweep"))[1]["unreachable"] == 1
    assert await asked_to_change(before) == 503
    await site.slapd.run()
    assert location(await site.password(after, "ada")) == "/hub/home"
    assert [await asked_to_change(who) for who in (before, after)] == [404, 404]
    assert "nothing is changed" not in (await after.get("/hub/home")).body.decode()
