"""A person signs in with a real Keycloak, works as her real uid, and is out when Keycloak says so."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from daas_hub.core.oidc_claims import derived_name
from tests.flow.site import Site
from tests.servers.browser import ChromiumServer, axe
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.keycloak import Keycloak
from tests.servers.link_site import LinkSite
from tests.servers.npm import proxy_command
from tests.servers.reachable_python import reachable_python
from tests.servers.slapd import PEOPLE
from tests.servers.tiny_server import program
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "keycloak", "chromium", "node", "slapd"), pytest.mark.timeout(420)]

CONFIG = """
c.JupyterHub.authenticator_class = "daas_hub.auth.oidc.DaasOIDCAuthenticator"
c.DaasOIDCAuthenticator.preset = "keycloak"
c.DaasOIDCAuthenticator.issuer = "{issuer}"
c.DaasOIDCAuthenticator.client_id = "{client}"
c.DaasOIDCAuthenticator.client_secret_file = "{secret}"
c.DaasOIDCAuthenticator.allow_plaintext = True
c.DaasOIDCAuthenticator.allowed_groups = {{"lab"}}
c.DaasOIDCAuthenticator.admin_groups = {{"operators"}}
c.DaasOIDCAuthenticator.mail_domains = {{"site.test"}}
c.DaasOIDCAuthenticator.posix_claims = {{
    "uid_number": "uidNumber", "gid_number": "gidNumber", "home": "homeDirectory"}}
c.DaasSpawner.allocated_uids = c.DaasSpawner.allocated_gids = [[{given}, {given}]]
c.DaasSpawner.fallback_home = "{homes}/{{name}}"
c.Authenticator.auth_refresh_age = 1
"""
"""Asked at nearly every request: what Keycloak says shows at once."""
GIVEN = 70001
"""The only number that this hub may give away."""


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """One for the run; it takes longer to start than all else here."""
    server = Keycloak(Path(tmp_path_factory.mktemp("keycloak")))
    try:
        asyncio.run(server.start())
        yield server
    finally:
        asyncio.run(server.stop())


@dataclass
class Place:
    """A site whose people come by Keycloak."""

    site: Site
    keycloak: Keycloak
    page: Page

    @property
    def url(self) -> str:
        return self.site.hub.url

    async def sign_in(self, name: str) -> None:
        await self.page.goto(f"{self.url}/hub/login?next=/hub/home")
        await (
            self.page.get_by_role("link", name="Sign in with Keycloak")
            .or_(self.page.get_by_role("button", name="Sign in with Keycloak"))
            .first.click()
        )
        await self.page.fill("#username", name)
        await self.page.fill("#password", f"{name}-secret")
        await self.page.click("#kc-login")

    async def user(self, name: str) -> str:
        """What the hub calls somebody of Keycloak's."""
        found = await asyncio.to_thread(self.keycloak.api, "GET", f"/lab/users?username={name}&exact=true")
        return derived_name("u", self.keycloak.issuer, found[0]["id"])


@pytest.fixture(scope="module")
def keycloak_site(keycloak: Keycloak, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One hub for the module, registered at Keycloak."""
    secret = tmp_path_factory.mktemp("client") / "secret"
    secret.write_text(SECRET)
    site = Site(cmd=list(program(reachable_python())))
    site.more = CONFIG.format(issuer=keycloak.issuer, client=CLIENT, secret=secret, given=GIVEN, homes=site.homes)
    try:
        asyncio.run(site.start())
        url = f"{site.hub.hub_url}/hub/oidc/logout"
        keycloak.client(site.hub.url, **{"backchannel.logout.url": url, "backchannel.logout.session.required": "true"})
        yield site
    finally:
        asyncio.run(site.stop())


@pytest_asyncio.fixture
async def place(keycloak: Keycloak, keycloak_site: Site, tmp_path: Path) -> AsyncIterator[Place]:
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        page = await (await browser.person()).new_page()
        page.set_default_timeout(60_000)
        yield Place(keycloak_site, keycloak, page)
    finally:
        await browser.stop()


def runs_somebody(uid: int) -> bool:
    """Whether a process runs as this uid."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                return True
    return False


async def test_in_by_keycloak_a_server_as_her_uid_and_out(place: Place) -> None:
    site, keycloak, page = place.site, place.keycloak, place.page
    ada = PEOPLE["ada"]
    home = site.home("ada")
    home.mkdir(mode=0o700)
    os.chown(home, ada.uid, ada.gid)
    facts = {"uidNumber": ada.uid, "gidNumber": ada.gid, "homeDirectory": str(home)}
    await asyncio.to_thread(lambda: keycloak.person("ada", groups=("lab", "operators"), **facts))

    await page.goto(f"{place.url}/hub/login")
    assert await axe(page, within=".service-login") == []
    await place.sign_in("ada")
    await page.wait_for_url(f"{place.url}/hub/home")
    name = await place.user("ada")
    _, model = await site.hub.api("GET", f"users/{name}")
    assert (sorted(model["groups"]), model["admin"]) == (["lab", "operators"], True)

    # What the provider says of her account is what her server runs as.
    assert (await site.hub.start_server(name, options={"profile": "basic"}))[0] in (201, 202)
    assert site.servers("ada")
    (row,) = site.launches()
    assert row.account_id
    assert (await site.hub.api("DELETE", f"users/{name}/server"))[0] in (202, 204)

    # Left a group: demoted with the next request, by the refresh token alone.
    for group in keycloak.api("GET", "/lab/groups?search=operators"):
        person = keycloak.api("GET", "/lab/users?username=ada&exact=true")[0]
        await asyncio.to_thread(keycloak.api, "DELETE", f"/lab/users/{person['id']}/groups/{group['id']}")

    async def demoted() -> bool:
        await page.goto(f"{place.url}/hub/home")
        _, now = await site.hub.api("GET", f"users/{name}")
        return now["groups"] == ["lab"] and now["admin"] is False

    await until(demoted, within_s=30, what="demoted", every_s=0.2)

    # Out of both: the next sign-in is asked for the password again.
    await page.goto(f"{place.url}/hub/logout")
    await page.wait_for_url(f"{place.url}/hub/login")
    await page.goto(f"{place.url}/hub/home")
    assert "/hub/login" in page.url
    await page.get_by_text("Sign in with Keycloak").click()
    await page.wait_for_selector("#kc-login")
    log = site.hub.log_text()
    assert SECRET not in log
    assert "eyJ" not in log  # how every JWT begins


async def test_who_has_an_account_nowhere_else_is_given_one(place: Place) -> None:
    """No directory, no POSIX attributes: the hub's own number and home, by issuer and subject."""
    await asyncio.to_thread(lambda: place.keycloak.person("gwen"))
    await place.sign_in("gwen")
    await place.page.wait_for_url(f"{place.url}/hub/home")
    name = await place.user("gwen")
    assert (await place.site.hub.start_server(name, options={"profile": "basic"}))[0] in (201, 202)
    assert runs_somebody(GIVEN)
    assert (place.site.homes / name).stat().st_uid == GIVEN
    assert (await place.site.hub.api("DELETE", f"users/{name}/server"))[0] in (202, 204)


async def test_who_is_disabled_is_out(place: Place) -> None:
    keycloak, page = place.keycloak, place.page
    await asyncio.to_thread(lambda: keycloak.person("dora"))
    await place.sign_in("dora")
    await page.wait_for_url(f"{place.url}/hub/home")
    for _ in range(5):
        await page.goto(f"{place.url}/hub/home")
        assert page.url == f"{place.url}/hub/home"
    await asyncio.to_thread(lambda: keycloak.change("dora", enabled=False))

    async def out() -> bool:
        await page.goto(f"{place.url}/hub/home")
        return "/hub/login" in page.url

    await until(out, within_s=30, what="out", every_s=0.2)


async def test_an_administrator_of_keycloak_ends_a_session(place: Place) -> None:
    """Back-channel logout: nobody asks Keycloak, it says so by itself."""
    hub = place.site.hub
    await asyncio.to_thread(lambda: place.keycloak.person("emil"))
    await place.sign_in("emil")
    await place.page.wait_for_url(f"{place.url}/hub/home")
    name = await place.user("emil")
    _, made = await hub.api("POST", f"users/{name}/tokens", {"note": "mine"})
    await asyncio.to_thread(place.keycloak.end_sessions, "emil")
    await until(lambda: f"The provider ended the sign-in of {name}" in hub.log_text(), within_s=30, what="told")
    assert (await hub.api("GET", "user", token=made["token"]))[0] == 403
    await place.page.goto(f"{place.url}/hub/home")
    assert "/hub/login" in place.page.url


async def test_who_is_in_no_allowed_group_is_told(place: Place) -> None:
    await asyncio.to_thread(lambda: place.keycloak.person("eve", groups=()))
    await place.sign_in("eve")
    text = place.page.get_by_text("this service is not open to you")
    await text.first.wait_for()


class LinkedByKeycloak(LinkSite):
    """The first provider is Keycloak; people are the directory's."""

    def __init__(self, root: Path, keycloak: Keycloak) -> None:
        super().__init__(root, proxy=proxy_command())
        self.keycloak = keycloak

    def ways(self, secret: str) -> list[dict[str, Any]]:
        made = super().ways(secret)
        issuer = {"preset": "keycloak", "issuer": self.keycloak.issuer, "client_id": "linked"}
        settings = {**issuer, "client_secret_file": secret, "allow_plaintext": True}
        return [{**way, "settings": settings} if way["name"] == "first" else way for way in made]


async def at_keycloak(page: Page, name: str) -> None:
    """Fill in Keycloak's own form; a person who proves herself anew finds her name there."""
    await page.wait_for_selector("#password")
    if await page.is_visible("#username"):
        await page.fill("#username", name)
    await page.fill("#password", f"{name}-secret")
    await page.click("#kc-login")


async def test_linked_to_the_directory_and_unlinked_by_proof_of_both(keycloak: Keycloak, tmp_path: Path) -> None:
    """A real provider: the second way there asks nothing, and proving anew asks for the password again."""
    site = await LinkedByKeycloak(tmp_path, keycloak).start()
    browser = await ChromiumServer(tmp_path / "chromium.log").start()
    try:
        keycloak.client(site.hub.url, client_id="linked", callback="/hub/oidc/first/callback")
        await asyncio.to_thread(lambda: keycloak.person("wanderer"))
        page = await (await browser.person()).new_page()
        page.set_default_timeout(60_000)
        await page.goto(f"{site.hub.url}/hub/login?next=/hub/token")
        await page.get_by_role("link", name="Sign in with First Federation").click()
        await at_keycloak(page, "wanderer")
        await page.wait_for_url("**/hub/daas/link")
        await page.fill("#username", "dora")
        await page.fill("#password", "dora-secret")
        await page.click("#link")
        await page.wait_for_url("**/hub/token")
        (subject,) = [person["id"] for person in keycloak.api("GET", "/lab/users?username=wanderer&exact=true")]
        assert site.links("dora")[1:] == [(keycloak.issuer, subject, "password")]
        assert await page.evaluate("window.jhdata.user") == "dora"

        await page.goto(f"{site.hub.url}/services/daas/identities")
        await page.get_by_role("link", name="Unlink").click()
        await page.fill("#password", "dora-secret")
        await page.click("#unlink")
        await at_keycloak(page, "wanderer")
        await page.wait_for_selector("#unlinked")
        assert site.links("dora")[1:] == []
        await page.goto(f"{site.hub.url}/hub/home")
        await page.wait_for_selector("#username_input")
    finally:
        await browser.stop()
        await site.stop()
