"""A site with a real directory, two providers and a hub with all ways on one page; nobody starts servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPResponse

from daas_hub.auth.break_glass import line_of
from daas_hub.db.ledger import Ledger
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.hub import HubServer
from tests.servers.slapd import BASE, SERVICE_DN, Slapd
from tests.servers.visitor import Visitor, location

LOCAL, LOCAL_PASSWORD = "glass", "a long local password"

CONFIG = """
from daas_hub import configure

c.JupyterHub.authenticator_class = "daas_hub.auth.multi.DaasAuthenticator"
c.DaasAuthenticator.ways = {ways!r}
c.DaasAuthenticator.break_glass_file = {glass!r}
c.DaasHub.hub_id = "links"
c.DaasSpawner.profile_list = [
    {{"display_name": "Basic", "slug": "basic", "resources": {{"cpu_limit": 1, "mem_limit": "1G"}}}},
]
{more}
configure(c)
"""


class LinkSite:
    """``first`` and ``second``: the providers, with people who are called as some of the directory are."""

    def __init__(self, root: Path, more: str = "", *, proxy: list[str] | None = None, **ways_more: Any) -> None:
        self.root = root
        homes = root / "homes"
        homes.mkdir()
        (root / "slapd").mkdir()
        self.slapd = Slapd(root / "slapd", homes)
        people = {
            # Called and reachable as a person of the directory is: that proves nothing.
            number: {"preferred_username": name, "email": f"{name}@site.test", "email_verified": True, "groups": []}
            for number, name in (("1", "ada"), ("2", "bob"), ("3", "eve"), ("4", "carl"))
        }
        self.first = EvilProvider(people=people)
        self.second = EvilProvider(people=json.loads(json.dumps(people)))
        self.more, self.ways_more, self._proxy = more, ways_more, proxy
        self.hub: HubServer

    async def start(self) -> LinkSite:
        """Everything."""
        await self.slapd.start()
        await self.first.start()
        await self.second.start()
        secret, glass = self.root / "client_secret", self.root / "glass"
        secret.write_text(SECRET)
        glass.write_text(line_of(LOCAL, LOCAL_PASSWORD) + "\n")
        for file in (secret, glass):
            file.chmod(0o600)
        self.glass = glass
        config = CONFIG.format(ways=self.ways(str(secret)), glass=str(glass), more=self.more)
        self.hub = HubServer(self.root, config, proxy=self._proxy)
        await self.hub.start()
        return self

    def ways(self, secret: str) -> list[dict[str, Any]]:
        """One directory, two providers."""
        directory = {
            "server_uris": [self.slapd.uri],
            "tls_ca_file": str(self.slapd.ca_file),
            "bind_dn": SERVICE_DN,
            "bind_password_file": str(self.slapd.password_file),
            "user_search_base": f"ou=people,{BASE}",
            "group_search_base": f"ou=groups,{BASE}",
            "allowed_groups": {"lab"},
            "admin_groups": {"operators"},
        }
        made: list[dict[str, Any]] = [{"kind": "ldap", "name": "site", "label": "the Site", "settings": directory}]
        for name, label, provider in (("first", "First Federation", self.first), ("second", "Git", self.second)):
            settings = {
                "issuer": provider.issuer,
                "client_id": CLIENT,
                "client_secret_file": secret,
                "allow_plaintext": True,
                "mail_domains": {"site.test"},
                "answer_within_s": 2,
                **self.ways_more,
            }
            made.append({"kind": "oidc", "name": name, "label": label, "settings": settings})
        return made

    async def stop(self) -> None:
        """Everything."""
        await self.hub.stop()
        await self.first.stop()
        await self.second.stop()
        await self.slapd.stop()

    def visitor(self) -> Visitor:
        """A new browser."""
        return Visitor(self.hub.hub_url)

    def ledger(self) -> Ledger:
        """The hub's own, opened a second time."""
        return Ledger.open(f"sqlite:///{self.root}/ledger.sqlite", create=False)

    def links(self, name: str) -> list[tuple[str, str, str]]:
        """Issuer, subject and proof of every link of the account of this name."""
        ledger = self.ledger()
        try:
            ids = [account.id for account in ledger.accounts.list() if account.name == name]
            return [(link.issuer, link.subject, link.proof) for each in ids for link in ledger.links.of(each)]
        finally:
            ledger.close()

    async def come(self, who: Visitor, person: str, *, way: str = "first", then: str = "") -> HTTPResponse:
        """Press a provider's button; the provider approves as this person. The answer to the call-back."""
        provider = self.first if way == "first" else self.second
        away = location(await who.get(f"/hub/oidc/{way}/login?next={quote(then)}"))
        provider.person = person
        return await who.get(provider.approve(away))

    async def arrive(self, who: Visitor, person: str, *, way: str = "first", then: str = "") -> None:
        """The same, to the link page, which is looked at."""
        assert location(await self.come(who, person, way=way, then=then)) == "/hub/daas/link"
        assert (await who.get("/hub/daas/link")).code == 200

    async def prove(self, who: Visitor, name: str, password: str = "", **more: Any) -> HTTPResponse:
        """Send the form of the link page."""
        fields = {"username": name, "password": password or f"{name}-secret", "way": "site"}
        return await who.post("/hub/daas/link", fields, **more)

    async def link(self, who: Visitor, person: str, name: str, *, way: str = "first", then: str = "") -> HTTPResponse:
        """All of it; the answer to the last call-back."""
        await self.arrive(who, person, way=way, then=then)
        provider = self.first if way == "first" else self.second
        away = location(await self.prove(who, name))
        provider.person = person
        return await who.get(provider.approve(away))

    async def password(self, who: Visitor, name: str, password: str = "", **more: str) -> HTTPResponse:
        """Sign in by the form."""
        assert (await who.get("/hub/login")).code == 200
        fields = {"username": name, "password": password or f"{name}-secret", "way": "site", **more}
        return await who.post("/hub/login?next=/hub/home", fields)

    async def user_of(self, who: Visitor) -> str:
        """Who is signed in in this browser; empty: nobody."""
        answer = await who.get("/hub/home")
        if answer.code != 200:
            return ""
        text = answer.body.decode()
        return text.split('data-user="')[1].split('"')[0] if 'data-user="' in text else _user_in(text)


def _user_in(text: str) -> str:
    """JupyterHub's pages say who it is in their script."""
    return text.split('user: "')[1].split('"')[0] if 'user: "' in text else "?"
