"""A real hub with the console behind the real proxy: for tests of pages and REST that need no server of a user."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from tests.servers.hub import HubServer
from tests.servers.npm import proxy_command

PASSWORD = "correct horse"

CONFIG = f"""
from daas_hub import configure
configure(c)
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {PASSWORD!r}
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{"admin"}}
c.JupyterHub.load_groups = {{"lab": {{"users": ["alice", "bob"]}}}}
"""


class ConsoleHub(HubServer):
    """Users alice and bob (group lab) and admin; everybody's password is PASSWORD."""

    def __init__(self, root: Path, more: str = "") -> None:
        super().__init__(root, CONFIG + more, proxy=proxy_command())

    @property
    def console(self) -> str:
        """The console's URL, with its trailing slash."""
        return f"{self.url}/services/daas/"

    async def start(self, *, within_s: float = 60) -> ConsoleHub:
        """Start the hub and wait for the console."""
        await super().start(within_s=within_s)
        return self

    async def stop(self) -> None:
        """End the hub, and the proxy that a killed hub left behind."""
        try:
            await super().stop()
        finally:
            self._end_proxy()

    def _end_proxy(self) -> None:
        pid_file = self.root / "jupyterhub-proxy.pid"
        with contextlib.suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            if str(self.api_port).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)

    @property
    def ledger_url(self) -> str:
        """Where the hub keeps its ledger."""
        return f"sqlite:///{self.root}/ledger.sqlite"

    async def user_token(self, user: str, *scopes: str) -> str:
        """A token of a user with exactly these scopes besides the access to the console."""
        body = {"scopes": ["access:services!service=daas", *scopes]}
        status, made = await self.api("POST", f"users/{user}/tokens", body)
        assert status == 201, made
        token: str = made["token"]
        return token

    async def rest(self, method: str, path: str, body: Any = None, *, token: str = "") -> tuple[int, Any]:
        """One call of the console's REST interface."""
        headers = {"Authorization": f"token {token}"} if token else {}
        return await self.http(method, f"{self.console}api/v1/{path}", body, headers)


class Person:
    """Somebody with a browser's cookies and headers of her own choice, for what a real browser would never send."""

    def __init__(self, hub: ConsoleHub) -> None:
        self.hub = hub
        self.jar = CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def request(
        self, method: str, url: str, form: dict[str, str] | bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Status, final URL and body, redirects followed."""
        data = urllib.parse.urlencode(form).encode() if isinstance(form, dict) else form
        request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, answer.url, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.url, error.read().decode(errors="replace")

    def headers(self, url: str) -> Message:
        """The headers of the answer to a GET."""
        try:
            with self.opener.open(url, timeout=60) as answer:
                return answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.headers

    def sign_in(self, name: str) -> Person:
        """Through the hub's form, then to the console, so that its cookies are there."""
        _, _, page = self.request("GET", f"{self.hub.url}/hub/login")
        form = {"username": name, "password": PASSWORD, "_xsrf": xsrf(page)}
        status, url, _ = self.request("POST", f"{self.hub.url}/hub/login?next=%2Fhub%2Fhome", form)
        assert (status, "/hub/home" in url) == (200, True), (status, url)
        status, url, page = self.request("GET", self.hub.console)
        assert (status, url) == (200, self.hub.console), page[-500:]
        return self


def xsrf(page: str) -> str:
    """The token in the first form of a page."""
    found = re.search(r'name="_xsrf" value="([^"]*)"', page)
    assert found is not None, page[:2000]
    return found[1]
