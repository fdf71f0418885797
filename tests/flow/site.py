"""A whole site for tests: a real directory, a real hub with its proxy and services, servers as real uids."""

from __future__ import annotations

import asyncio
import http.cookiejar
import os
import pwd
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from daas_hub.db.ledger import LaunchRow, Ledger
from tests.servers.hub import HubServer
from tests.servers.npm import proxy_command
from tests.servers.reachable_python import singleuser
from tests.servers.slapd import BASE, PEOPLE, SERVICE_DN, Entry, Slapd

CONFIG = """
from daas_hub import configure

c.JupyterHub.authenticator_class = "daas-ldap"
c.DaasLDAPAuthenticator.server_uris = [{uri!r}]
c.DaasLDAPAuthenticator.tls_ca_file = {ca!r}
c.DaasLDAPAuthenticator.bind_dn = {bind_dn!r}
c.DaasLDAPAuthenticator.bind_password_file = {password_file!r}
c.DaasLDAPAuthenticator.user_search_base = "ou=people,{base}"
c.DaasLDAPAuthenticator.group_search_base = "ou=groups,{base}"
c.DaasLDAPAuthenticator.allowed_groups = {{"lab"}}
c.DaasLDAPAuthenticator.admin_groups = {{"operators"}}
c.DaasHub.hub_id = {hub_id!r}
c.DaasHub.ledger_url = "sqlite:///{ledger}"
c.DaasSpawner.cmd = {cmd!r}
c.Spawner.default_url = "/lab"
c.Spawner.environment = {{"JUPYTERHUB_ACTIVITY_INTERVAL": "15"}}
c.LocalBackend.runtime_dir = {run!r}
c.LocalBackend.home_roots = [{homes!r}]
c.DaasSpawner.profile_list = [
    {{"display_name": "Basic", "slug": "basic", "default": True, "resources": {{"cpu_limit": 1, "mem_limit": "1G"}}}},
    {{"display_name": "Small", "slug": "small", "resources": {{"cpu_limit": 0.5, "mem_limit": "512M"}},
      "environment": {{"FROM_PROFILE": "yes"}}, "kubespawner_override": {{"default_url": "/tree"}}}},
    {{"display_name": "Large", "slug": "large", "resources": {{"cpu_limit": 4, "mem_limit": "2G"}}}},
]
{more}
configure(c)
"""

LOGIN_COOKIES = {"jupyterhub-hub-login"}
"""Not ``jupyterhub-session-id``: it opens nothing, and JupyterHub itself logs it (``_xsrf_utils``)."""


class Site:
    """``cmd``: argv of the single-user server; JupyterLab by default. ``proxy``: Node's, or this argv, or none."""

    def __init__(
        self,
        *,
        more: str = "",
        cmd: list[str] | None = None,
        proxy: bool | list[str] = True,
        env: dict[str, str] | None = None,
    ):
        self.root = Path(tempfile.mkdtemp(prefix="daas-site-", dir="/var/tmp"))
        self.root.chmod(0o755)
        self.homes = self.root / "homes"
        self.homes.mkdir(mode=0o755)
        self.state = self.root / "state"
        self.state.mkdir(mode=0o700)
        directory = self.state / "slapd"
        directory.mkdir(mode=0o700)
        self.slapd = Slapd(directory, self.homes)
        self.directory_uri = ""
        """Where the hub asks instead: a fault proxy before the directory."""
        self.ledger_file = self.state / "ledger.sqlite"
        self.cookies: set[tuple[str, str]] = set()
        """(person, value) of each cookie that a sign-in gave and that signs in."""
        self.hub_id = f"test-{self.root.name.removeprefix('daas-site-').lower().replace('_', '-').strip('-')}"
        self.run = self.root / "run"
        self.more, self._cmd, self._env = more, cmd, env
        self._proxy = (proxy_command() if proxy is True else proxy) or None
        self.hub_host = "127.0.0.1"
        self.internal_ssl = False
        self.hub_wrapper: list[str] = []
        """Words before the hub's own command (``HubServer.wrapper``)."""
        self.hub: HubServer

    async def start(self) -> Site:
        """Directory, then hub."""
        await self.slapd.start()
        config = CONFIG.format(
            uri=self.directory_uri or self.slapd.uri,
            ca=str(self.slapd.ca_file),
            bind_dn=SERVICE_DN,
            password_file=str(self.slapd.password_file),
            base=BASE,
            hub_id=self.hub_id,
            ledger=self.ledger_file,
            cmd=self._cmd or [await asyncio.to_thread(singleuser)],
            run=str(self.run),
            homes=str(self.homes),
            more=self.more,
        )
        self.hub = HubServer(self.state, config, proxy=self._proxy, env=self._env)
        self.hub.hub_host = self.hub_host
        self.hub.internal_ssl = self.internal_ssl
        self.hub.wrapper = self.hub_wrapper
        await self.hub.start()
        return self

    @asynccontextmanager
    async def standing(self, *names: str) -> AsyncIterator[Self]:
        """Started, and these people have signed in."""
        try:
            await self.start()
            for name in names:
                await self.sign_in(name)
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Everything ends, and is looked for: a server that is left is an error."""
        try:
            if self.hub.process is not None and self.hub.process.poll() is None:
                try:
                    await self.stop_servers()
                finally:
                    # A hub that does not answer is ended all the same, not left to slow down all that follow.
                    await self.hub.stop()
        finally:
            left = self.processes()
            for pid in left:
                os.kill(pid, 9)
            await self.slapd.stop()
            shutil.rmtree(self.root, ignore_errors=True)
        assert not left, f"processes of the site's people were left: {left}"

    async def stop_servers(self) -> None:
        """Stop every server that the hub knows."""
        _, users = await self.hub.api("GET", "users?state=active")
        for user in users:
            for name in user["servers"]:
                path = f"users/{user['name']}/servers/{name}" if name else f"users/{user['name']}/server"
                await self.hub.api("DELETE", path)

    def person(self, name: str) -> Entry:
        """Somebody of the directory."""
        return PEOPLE[name]

    def home(self, name: str) -> Path:
        """Her home."""
        return self.homes / name

    def processes(self, name: str | None = None) -> list[int]:
        """Pids that run as the site's people (or one of them), whoever started them."""
        uids = {p.uid for p in PEOPLE.values() if p.uid and (name is None or p.name == name)}
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    cmdline = (entry / "environ").read_bytes() if entry.stat().st_uid in uids else b""
                except OSError:
                    continue
                if str(self.homes).encode() in cmdline:
                    found.append(int(entry.name))
        return found

    def servers(self, name: str | None = None) -> list[int]:
        """Pids of single-user servers: those whose parent runs as somebody else."""
        pids = set(self.processes(name))
        return sorted(p for p in pids if parent_of(p) not in pids)

    async def sign_in(self, name: str) -> None:
        """Sign in by the hub's form, without a browser."""
        status, url = await asyncio.to_thread(self._sign_in, name, self.person(name).password)
        assert status == 200, (status, url)

    async def page(self, name: str, path: str) -> str:
        """A page of the hub as this person sees it."""
        _, text = await asyncio.to_thread(self._sign_in, name, self.person(name).password, path)
        return text

    def _sign_in(self, name: str, password: str, then: str = "") -> tuple[int, str]:
        """Status and final URL; with ``then`` the text of that page."""
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
        login = f"{self.hub.hub_url}/hub/login"
        opener.open(login, timeout=30).close()
        xsrf = next(c.value for c in jar if c.name == "_xsrf")
        fields = {"username": name, "password": password, "_xsrf": xsrf}
        try:
            target = f"{login}?next={then or '/hub/home'}"
            with opener.open(target, urllib.parse.urlencode(fields).encode(), timeout=60) as answer:
                self.cookies |= {(name, c.value) for c in jar if c.name in LOGIN_COOKIES and c.value}
                return answer.status, answer.read().decode() if then else answer.url
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def login_answer(self, name: str, password: str) -> tuple[int, str]:
        """Status and text of a login."""
        return await asyncio.to_thread(self._sign_in, name, password)

    def ledger(self) -> Ledger:
        """The hub's own ledger, opened a second time."""
        return Ledger.open(f"sqlite:///{self.ledger_file}", create=False)

    def launches(self) -> list[LaunchRow]:
        """All rows, newest first."""
        ledger = self.ledger()
        try:
            return ledger.launches()
        finally:
            ledger.close()


def parent_of(pid: int) -> int:
    """The pid of a process's parent; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def unknown_to_nss(uid: int) -> bool:
    """Whether this machine has no name for a uid."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False
