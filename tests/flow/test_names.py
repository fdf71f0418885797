"""Names at a real hub: every spelling is one person, a look-alike is nobody, endless ones fill no log."""

from __future__ import annotations

import asyncio
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.site import Site
from tests.servers.reachable_python import reachable_python
from tests.servers.tiny_server import program
from tests.waiting import LONG

pytestmark = [pytest.mark.needs("root", "slapd"), pytest.mark.timeout(1200 if LONG else 180)]

BAD_SIGN_INS = 10_000 if LONG else 200
MORE = """
c.DaasLDAPAuthenticator.blocked_users = {"ＢOB", " Dora"}
c.DaasLDAPAuthenticator.attempts_per_address = 0
"""
LOOK_ALIKES = ["аda", "ad\na", "ad\0a", "ad\u200ba", "ada/..", "..", "x" * 10**6, "ａ" * 10**5]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site(proxy=False, cmd=list(program(reachable_python())), more=MORE)
    try:
        asyncio.run(made.start())
        yield made
    finally:
        asyncio.run(made.stop())


async def users(site: Site) -> set[str]:
    status, found = await site.hub.api("GET", "users")
    assert status == 200
    return {user["name"] for user in found}


async def test_every_spelling_is_one_user(site: Site) -> None:
    for name in ("ada", "ADA", " ada ", "ａｄａ"):
        assert (await site.login_answer(name, "ada-secret"))[0] == 200
    assert "ada" in await users(site)
    assert {name for name in await users(site) if name.lower().strip() != name} == set()


async def test_who_is_blocked_in_one_spelling_is_blocked_in_all(site: Site) -> None:
    """As JupyterHub has it, ＢOB would block nobody."""
    for name in ("bob", "BOB", "dora", " DORA"):
        status, page = await site.login_answer(name, f"{name.strip().lower()}-secret")
        assert (status, "not open to you" in page) == (403, True)
    assert not {"bob", "dora"} & await users(site)


async def test_look_alikes_and_endless_names_are_nobody_and_leave_little_in_the_log(site: Site) -> None:
    """A wrong password is told, nothing more."""
    before = await users(site)
    written = site.hub.log.stat().st_size
    for name in LOOK_ALIKES:
        status, page = await site.login_answer(name, "ada-secret")
        assert (status, "Invalid username or password" in page) == (403, True), name[:20]
    assert await users(site) == before
    assert site.hub.log.stat().st_size - written < 2000 * len(LOOK_ALIKES)


async def test_rest_makes_and_renames_nobody_to_a_look_alike(site: Site) -> None:
    status, made = await site.hub.api("POST", "users", {"usernames": ["Ｚoe"]})
    assert (status, [user["name"] for user in made]) == (201, ["zoe"])
    assert (await site.hub.api("POST", "users", {"usernames": ["ZOE "]}))[0] == 409
    before = await users(site)
    written = site.hub.log.stat().st_size
    for name in [*LOOK_ALIKES, "zoe\n", "\0zoe", 5, None, ["zoe"]]:
        assert (await site.hub.api("POST", "users", {"usernames": [name]}))[0] == 400, str(name)[:40]
        assert (await site.hub.api("PATCH", "users/zoe", {"name": name}))[0] == 400, str(name)[:40]
    assert await users(site) == before
    assert site.hub.log.stat().st_size - written < 20_000 * len(LOOK_ALIKES)


class Browser:
    """One visitor who tries names, as fast as the hub answers."""

    def __init__(self, site: Site) -> None:
        self._url = f"{site.hub.hub_url}/hub/login"
        jar = http.cookiejar.CookieJar()
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))
        self._opener = urllib.request.build_opener(*handlers)
        self._opener.open(self._url, timeout=30).close()
        self._xsrf = next(cookie.value for cookie in jar if cookie.name == "_xsrf")

    def try_names(self, count: int) -> set[int]:
        """Every other one is a name that somebody could have, each fifth has a million characters."""
        answers = set()
        for n in range(count):
            name = "x" * 10**6 if n % 5 == 0 else f"nobody{n}" if n % 2 else f"аdmin{n}" * 50
            fields = {"username": name, "password": "wrong", "_xsrf": self._xsrf}
            try:
                self._opener.open(self._url, urllib.parse.urlencode(fields).encode(), timeout=60).close()
            except urllib.error.HTTPError as error:
                answers.add(error.code)
                error.close()
        return answers


async def test_bad_sign_ins_fill_neither_memory_nor_log(site: Site) -> None:
    browser = await asyncio.to_thread(Browser, site)
    assert await asyncio.to_thread(browser.try_names, 50) == {403}
    memory, written = resident_bytes(site), site.hub.log.stat().st_size
    assert await asyncio.to_thread(browser.try_names, BAD_SIGN_INS) == {403}
    # A fifth of all names has 10^6 bytes: were they kept, it would be 40 MB here, 2 GB in the long run.
    assert resident_bytes(site) - memory < (100 if LONG else 25) * 2**20
    assert site.hub.log.stat().st_size - written < 1000 * BAD_SIGN_INS


def resident_bytes(site: Site) -> int:
    """What the hub's process holds in memory."""
    assert site.hub.process is not None
    status = Path(f"/proc/{site.hub.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
