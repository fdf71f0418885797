"""The demo as a client of its own hub: a real sign-in through the form, then REST with a narrow token."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any

from daas_hub.core.errors import ConfigError

TIMEOUT_S = 30.0


class DemoClient:
    """Blocking calls: use them in a thread."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data=data, method=method, headers=headers)  # noqa: S310
        # No proxy of the environment: everything is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")

    def up(self) -> bool:
        """Whether hub, proxy and console answer."""
        try:
            return all(
                self._call("GET", path)[0] == HTTPStatus.OK
                for path in ("/hub/health", "/hub/login", "/services/daas/health")
            )
        except OSError:
            return False

    def sign_in(self, name: str, password: str) -> None:
        """Post the login form as a browser does; raises ConfigError where the hub refuses."""
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
        login = f"{self._url}/hub/login"
        with opener.open(login, timeout=TIMEOUT_S):
            pass
        xsrf = next((cookie.value or "" for cookie in jar if cookie.name == "_xsrf"), "")
        form = urllib.parse.urlencode({"username": name, "password": password, "_xsrf": xsrf}).encode()
        try:
            # The page after the login may need a server; where it leads does not matter here.
            with opener.open(f"{login}?next=%2Fhub%2Fhome", data=form, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            raise ConfigError(f"The demo's own sign-in as {name} failed ({error.code}): {text[:300]}") from error

    def start_server(self, name: str, server: str, options: dict[str, Any]) -> None:
        """Ask for a server; raises ConfigError with the hub's own text where it is refused."""
        status, answer = self._call("POST", f"/hub/api/users/{name}/servers/{server}", options)
        if status not in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            raise ConfigError(f"The demo's first server was refused ({status}): {answer}")

    def server_ready(self, name: str, server: str) -> bool:
        """Whether it runs; raises ConfigError where it is gone."""
        status, model = self._call("GET", f"/hub/api/users/{name}")
        if status != HTTPStatus.OK:
            return False
        found = model.get("servers", {}).get(server)
        if found is None:
            raise ConfigError(f"The demo's first server (of {name}) ended before it was ready; see hub.log.")
        return bool(found["ready"])
