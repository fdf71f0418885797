"""A mail when a server is ready that somebody waited for: wished by REST or on the page, sent once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect
from sqlalchemy import update

from daas_hub.core.models import LaunchState
from daas_hub.core.turns import MAIL_FIELD
from daas_hub.db.schema import launch
from daas_hub.db.wishes import TAKEN
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, axe, overflow, sign_in
from tests.servers.mailbox import Mailbox
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("root", "slapd", "node", "chromium", "aiosmtpd"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
SHOTS = os.environ.get("DAAS_TEST_SHOTS", "")
"""A folder for pictures of what a person sees, if somebody wants to look."""
LONG_WAIT_S = 3600
MORE = """
c.JupyterHub.authenticator_class = "daas_hub.auth.multi.DaasAuthenticator"
site = {{"kind": "ldap", "name": "site", "label": "the Site", "settings": dict(c.DaasLDAPAuthenticator)}}
del c["DaasLDAPAuthenticator"]
c.DaasAuthenticator.ways = [site]
c.DaasAuthenticator.mail_host = "127.0.0.1"
c.DaasAuthenticator.mail_port = {port}
c.DaasAuthenticator.mail_tls = "none"
c.DaasAuthenticator.mail_sender = "hub@site.test"
c.DaasSpawner.mail_after_s = 0
c.LocalBackend.room_cores = 1
c.Reconciler.lease_s = 3
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0.5}}
"""


@dataclass
class Place:
    site: Site
    box: Mailbox

    def states(self) -> dict[str, str]:
        """Owner → the state of her launch that has not ended."""
        return {row.user_name: str(row.state) for row in self.site.launches() if row.state is not LaunchState.ENDED}

    async def reach(self, **wanted: str) -> None:
        await until(lambda: self.states() == wanted, within_s=60, what=f"{wanted}")

    async def begin(self, user: str, **options: Any) -> None:
        status, said = await self.site.hub.api("POST", f"users/{user}/server", {"profile": "basic", **options})
        assert status in (201, 202), said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    box = await Mailbox().start()
    site = Site(cmd=list(program(reachable_python())), more=MORE.format(port=box.port))
    try:
        await site.start()
        for name in ("ada", "bob", "dora"):
            await site.sign_in(name)
        yield Place(site, box)
    finally:
        await site.stop()
        await box.stop()


async def test_who_waits_is_told_once_by_mail_where_she_wished_it(place: Place, tmp_path: Path) -> None:
    site, box = place.site, place.box
    await place.begin("dora")
    await place.reach(dora="running")
    await place.begin("ada", mail_when_ready=True)
    await place.reach(dora="running", ada="queued")
    await place.begin("bob")
    await place.reach(dora="running", ada="queued", bob="queued")
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        page = await (await browser.person(phone=True)).new_page()
        await sign_in(page, site.hub.url, "bob", site.person("bob").password)
        await page.goto(f"{site.hub.url}/hub/spawn-pending/bob")
        wish = page.get_by_label("Mail me when it is ready")
        await expect(wish).not_to_be_checked()
        await wish.check()
        await expect(page.locator("#daas-mail-status")).to_have_text("You get a mail.")
        await expect(page.locator("#progress-log")).to_contain_text(
            "Waiting in this hub's own queue, number 2 in line."
        )
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / "ready-mail.png", full_page=True)
        assert await axe(page) == []
        assert await overflow(page) <= 0
        await page.reload()
        await expect(wish).to_be_checked()
    finally:
        await browser.stop()
    # Nobody else's wish: ada's own token may not ask it for bob.
    _, made = await site.hub.api("POST", "users/ada/tokens", {})
    path, body = "daas/ready-mail/bob", {"mail_when_ready": False}
    assert (await site.hub.api("POST", path, body, token=made["token"]))[0] in (403, 404)
    await site.hub.stop_server("users/dora/server")
    await place.reach(ada="running", bob="queued")
    await until(lambda: box.to("ada@site.test"), within_s=30, what="ada's mail")
    # The wish outlives the hub, and so does the word that ada has been told. The next hub mails only who waits long.
    site.hub.signal(9)
    await site.hub.wait_gone()
    since_long(site, site.launches()[0].id)
    site.hub.config += f"\nc.DaasSpawner.mail_after_s = {LONG_WAIT_S}\n"
    await site.hub.start()
    await until(lambda: ready(site, "ada"), within_s=60, what="ada's server is adopted")
    await until(lambda: site.launches()[0].request.get("queued_since"), within_s=60, what="bob is queued again")
    await site.hub.stop_server("users/ada/server")
    await place.reach(bob="running")
    await until(lambda: box.to("bob@site.test"), within_s=30, what="bob's mail")
    assert (await site.hub.api("POST", path, body))[0] == 404
    await place.begin("ada", mail_when_ready=True)
    await place.reach(bob="running", ada="queued")
    await site.hub.stop_server("users/bob/server")
    await place.reach(ada="running")
    await site.hub.stop_server("users/ada/server")
    await place.reach()
    short = site.launches()[0]
    assert (short.user_name, short.request[MAIL_FIELD], TAKEN in short.request) == ("ada", True, False)
    for name, waited in (("ada", ""), ("bob", "2 h")):
        (letter,) = box.to(f"{name}@site.test")
        assert letter["Subject"] == "Your server is ready"
        assert f"Your server (Basic) is ready. It waited for {waited}" in letter.get_content()
    assert len(box.got) == 2


def since_long(site: Site, launch_id: str) -> None:
    """As if she had begun to wait two long waits ago."""
    ledger = site.ledger()
    try:
        made_at = datetime.now(UTC) - timedelta(seconds=2 * LONG_WAIT_S)
        ledger._db.write(lambda c: c.execute(update(launch).where(launch.c.id == launch_id).values(created_at=made_at)))
    finally:
        ledger.close()


async def ready(site: Site, user: str) -> bool:
    return bool((await site.hub.server(user) or {}).get("ready"))
