"""A browser without its window: cookies by name and path, redirects only where the test follows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse


@dataclass
class Visitor:
    """One browser profile at one hub."""

    base: str
    cookies: dict[tuple[str, str], str] = field(default_factory=dict)

    async def get(self, url: str) -> HTTPResponse:
        """One page; the browser keeps what cookies it sets."""
        return await self._fetch("GET", url, None, {})

    async def post(
        self, url: str, fields: dict[str, str], *, xsrf: str | None = None, headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        """Send a form with the token that the cookie has, or with the one given."""
        token = self._xsrf(urlsplit(urljoin(self.base, url)).path) if xsrf is None else xsrf
        body = urlencode({**fields, "_xsrf": token} if token else fields)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._fetch("POST", url, body, {**kind, **(headers or {})})

    def _xsrf(self, path: str) -> str:
        found = [value for (name, where), value in self.cookies.items() if name == "_xsrf" and path.startswith(where)]
        return found[-1] if found else ""

    async def _fetch(self, method: str, url: str, body: str | None, headers: dict[str, str]) -> HTTPResponse:
        url = urljoin(self.base, url)
        path = urlsplit(url).path
        sent = [f"{name}={value}" for (name, where), value in self.cookies.items() if path.startswith(where)]
        cookie = {"Cookie": "; ".join(sent)} if sent and url.startswith(self.base) else {}
        request = HTTPRequest(
            url, method, headers={**cookie, **headers}, body=body, follow_redirects=False, request_timeout=20
        )
        # One for the loop; its usual ten at once would make browsers wait for each other.
        answer = await AsyncHTTPClient(max_clients=100).fetch(request, raise_error=False)
        for line in answer.headers.get_list("Set-Cookie") if url.startswith(self.base) else ():
            for name, morsel in SimpleCookie(line).items():
                key = (name, morsel["path"] or "/")
                if morsel.value and morsel["max-age"] != "0" and "1970" not in morsel["expires"]:
                    self.cookies[key] = morsel.value
                else:
                    self.cookies.pop(key, None)
        return answer

    def named(self, prefix: str) -> list[str]:
        """Names of the cookies that begin so."""
        return [name for name, _ in self.cookies if name.startswith(prefix)]


def location(answer: HTTPResponse) -> str:
    """Where a redirect leads; fails for every other answer."""
    assert answer.code in (302, 303), (answer.code, answer.body[-1500:])
    return str(answer.headers["Location"])
