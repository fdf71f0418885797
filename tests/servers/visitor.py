"""A browser without its window: cookies by name and path, redirects only where the test follows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse


@dataclass
class Visitor:
    """One browser profile at one hub."""

    base: str
    cookies: dict[tuple[str, str], str] = field(default_factory=dict)

    async def get(self, url: str) -> HTTPResponse:
        """One page; the browser keeps what cookies it sets."""
        url = urljoin(self.base, url)
        path = urlsplit(url).path
        sent = [f"{name}={value}" for (name, where), value in self.cookies.items() if path.startswith(where)]
        headers = {"Cookie": "; ".join(sent)} if sent and url.startswith(self.base) else {}
        request = HTTPRequest(url, headers=headers, follow_redirects=False, request_timeout=20)
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
