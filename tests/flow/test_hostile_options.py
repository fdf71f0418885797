"""Hostile user_options on a real hub, by every way in: refused by name, kept nowhere, and nothing breaks."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.profiles_hub import profiles_hub, stop_server
from tests.servers.hub import HubServer

pytestmark = [pytest.mark.needs("root"), pytest.mark.timeout(240)]


class Visitor:
    """A browser without scripts: cookies, pages, forms."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.jar)
        )

    def xsrf(self) -> str:
        """The hub's token against forged requests."""
        return next(c.value or "" for c in self.jar if c.name == "_xsrf")

    async def page(self, path: str) -> tuple[int, str]:
        """Open a page."""
        return await asyncio.to_thread(self._call, path, None)

    async def post(self, path: str, fields: Any) -> tuple[int, str]:
        """Send a form."""
        data = urllib.parse.urlencode(fields).encode()
        return await asyncio.to_thread(self._call, f"{path}?_xsrf={urllib.parse.quote(self.xsrf())}", data)

    def _call(self, path: str, data: bytes | None) -> tuple[int, str]:
        try:
            with self._opener.open(f"{self.url}{path}", data=data, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with profiles_hub() as server:
        yield server


async def sign_in(server: HubServer, name: str) -> Visitor:
    visitor = Visitor(server.hub_url)
    await visitor.page("/hub/login")
    status, page = await visitor.post("/hub/login", {"username": name, "password": "any"})
    assert status == 200, (page, server.log_text()[-3000:])
    return visitor


async def nothing_is_broken(server: HubServer, visitor: Visitor, boss: Visitor) -> None:
    """Home, spawn page, admin page and REST list answer as ever."""
    for who, path in ((visitor, "/hub/home"), (visitor, "/hub/spawn"), (boss, "/hub/admin")):
        status, text = await who.page(path)
        assert status == 200, (path, text[-2000:])
    for path in ("users?include_stopped_servers", "users?state=active"):
        status, users = await server.api("GET", path)
        assert status == 200, users
        assert len(json.dumps(users)) < 100_000


def nested(depth: int) -> bytes:
    return b'{"size":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


HOSTILE: list[tuple[bytes | dict[str, Any], str]] = [
    ({"profile": 5}, "profile: text is needed, not the number 5"),
    ({"profile": ["basic"]}, "profile: text is needed, not a list"),
    ({"profile": None}, "profile: text is needed, not null"),
    ({"profile": "nope"}, "profile: there is no profile"),
    ({"profile": "other", "size": {"s": True}}, "size: text is needed, not an object"),
    ({"profile": "other", "size": "xl"}, "size: Size has no choice"),
    ({"uid": "0"}, "uid: profile Basic has no such option"),
    ({"__class__": "x"}, "__class__: profile Basic has no such option"),
    ({"__jupyterhub_bytes__": True, "data": "aGk="}, "__jupyterhub_bytes__: profile Basic has no such option"),
    ({"profile": {"__jupyterhub_bytes__": True, "data": "aGk="}}, "profile: text is needed, not an object"),
    ({"a\r\nSet-Cookie: x=1\u0000\u001b[31m\ud800": "x"}, "no such option"),
    ({"profile": "x" * 5_000_000}, "profile: the text has more than 1000 characters"),
    ({"y" * 5_000_000: "1"}, "no such option"),
    ({str(i): "x" * 50 for i in range(80_000)}, "more than 100 fields"),
    *((nested(depth), "size: text is needed, not an object") for depth in (2, 100, 800, 920, 940)),
]
"""Body (or its JSON, where Python cannot write it) and what the refusal says."""
UNREADABLE = [nested(depth) for depth in (*range(945, 1000, 2), 5000, 1_000_000)]
"""About as deep as JSON is read, or deeper: whatever the hub makes of it, nothing must break."""


def body(options: bytes | dict[str, Any]) -> bytes:
    return b'{"user_options": ' + (options if isinstance(options, bytes) else json.dumps(options).encode()) + b"}"


async def rest(server: HubServer, method: str, path: str, data: bytes | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"token {server.token}"}
    return await server.http(method, f"{server.hub_url}/hub/api/{path}", data, headers)


async def accepted_once(server: HubServer, name: str) -> Visitor:
    """Somebody who has started and stopped a server with options that were accepted."""
    visitor = await sign_in(server, name)
    status, answer = await server.start_server(name, options={"profile": "other", "size": "s"})
    assert status in (201, 202), (answer, server.log_text()[-6000:])
    await stop_server(server, name)
    return visitor


async def starts_as_before(server: HubServer, name: str) -> None:
    """A start without a body uses what was accepted last, not what was refused."""
    status, answer = await server.start_server(name)
    assert status in (201, 202), answer
    model = await server.server(name)
    assert model is not None
    assert model["user_options"] == {"profile": "other", "size": "s"}
    await stop_server(server, name)


async def test_by_post(hub: HubServer) -> None:
    boss, visitor = await sign_in(hub, "boss"), await accepted_once(hub, "posting")
    for options, sentence in HOSTILE:
        status, answer = await rest(hub, "POST", "users/posting/server", body(options))
        assert status == 400, (answer, sentence)
        assert sentence in answer["message"]
        assert len(answer["message"]) < 500
        await nothing_is_broken(hub, visitor, boss)
        model = await hub.server("posting")
        assert model is not None
        assert model["user_options"] == {"profile": "other", "size": "s"}
    for data in UNREADABLE:
        status, answer = await rest(hub, "POST", "users/posting/server", body(data))
        assert 400 <= status <= 500, answer
    await nothing_is_broken(hub, visitor, boss)
    await starts_as_before(hub, "posting")


async def test_by_patch_and_a_start(hub: HubServer) -> None:
    boss, visitor = await sign_in(hub, "boss"), await accepted_once(hub, "patching")
    logged = len(hub.log_text())
    for options, sentence in HOSTILE:
        status, answer = await rest(hub, "PATCH", "users/patching/servers/", body(options))
        assert status == 200, answer
        await nothing_is_broken(hub, visitor, boss)
        status, answer = await rest(hub, "POST", "users/patching/server")
        assert status == 400, (answer, sentence)
        assert sentence in answer["message"]
    for data in UNREADABLE:
        await rest(hub, "PATCH", "users/patching/servers/", body(data))
        await nothing_is_broken(hub, visitor, boss)
    await rest(hub, "POST", "users/patching/server")
    await nothing_is_broken(hub, visitor, boss)
    assert len(hub.log_text()) - logged < 500_000, "14 MB were sent"


async def test_after_a_patched_start_was_refused_the_next_uses_what_was_accepted(hub: HubServer) -> None:
    await accepted_once(hub, "mending")
    for options in ({"profile": "nope"}, {"profile": "other", "size": "l"}):
        assert (await rest(hub, "PATCH", "users/mending/servers/", body(options)))[0] == 200
        assert (await rest(hub, "POST", "users/mending/server"))[0] in (400, 403)
        await starts_as_before(hub, "mending")


async def test_by_put_and_a_start(hub: HubServer) -> None:
    boss, visitor = await sign_in(hub, "boss"), await sign_in(hub, "putting")
    for options, sentence in HOSTILE:
        status, answer = await rest(hub, "PUT", "users/putting/servers/named", body(options))
        assert status == 201, answer
        await nothing_is_broken(hub, visitor, boss)
        assert (await visitor.page("/hub/spawn/putting/named"))[0] == 200
        status, answer = await rest(hub, "POST", "users/putting/servers/named")
        assert status == 400, (answer, sentence)
        assert sentence in answer["message"]
        model = await hub.server("putting", "named")
        assert model is not None
        assert model["user_options"] == {}
        status, answer = await rest(hub, "DELETE", "users/putting/servers/named", b'{"remove": true}')
        assert status == 204, answer


async def test_by_form(hub: HubServer) -> None:
    boss, visitor = await sign_in(hub, "boss"), await accepted_once(hub, "forming")
    forms: list[tuple[list[tuple[str, str]], str]] = [
        ([("profile", "nope")], "profile: there is no profile"),
        ([("profile", "basic"), ("profile", "other")], "profile: one text is needed, not a list"),
        ([("profile", "other"), ("profile-option-other--size", "xl")], "size: Size has no choice"),
        ([("profile", "other"), ("profile-option-other--uid", "0")], "uid: profile Other has no such option"),
        ([("uid", "0")], "uid: profile Basic has no such option"),
        ([("__class__", "<script>alert(1)</script>")], "__class__: profile Basic has no such option"),
        ([("profile", "<script>alert(1)</script>")], "&lt;script&gt;alert(1)"),
        ([("profile", "x" * 5_000_000)], "profile: the text has more than 1000 characters"),
        ([("y" * 100_000, "1")], "no such option"),
        ([(f"f{i}", "1") for i in range(500)], "more than 100 fields"),
    ]
    for fields, sentence in forms:
        status, page = await visitor.post("/hub/spawn", fields)
        assert status == 400, (sentence, page[-2000:])
        assert sentence in page
        assert "SpawnException" not in page
        assert "<script>alert" not in page
        assert len(page) < 100_000
        await nothing_is_broken(hub, visitor, boss)
    await starts_as_before(hub, "forming")


async def test_a_link_never_starts_and_fills_the_form(hub: HubServer) -> None:
    visitor = await sign_in(hub, "linking")
    logged = len(hub.log_text())
    for query in (
        "opt-profile=other&opt-size=xl&opt-evil=%3Cscript%3E",
        "profile=other&size=xl&evil=%3Cscript%3E",
        "opt-profile=other&opt-profile-option-other--size=xl&opt-evil=%3Cscript%3E",
    ):
        status, page = await visitor.page(f"/hub/spawn?{query}")
        assert status == 200
        assert "nothing was started yet" in page
        assert "size: Size has no choice" in page
        assert "evil: profile Other has no such option" in page
        assert "spawn-error-msg" not in page, "it is no error"
        assert re.search(r'value="other"[^>]* checked', page), "the good part is filled in"
    for query in (
        "opt-profile=nope",
        "opt-profile=" + "x" * 9000,
        "opt-profile=a&opt-profile=b",
        "opt-a=%00%F0%9F%98%80",
    ):
        status, page = await visitor.page(f"/hub/spawn?{query}")
        assert status == 200, query
        assert "This could not be filled in" in page
    assert (await hub.server("linking") or {"ready": False})["ready"] is False
    lines = hub.log_text()[logged:]
    assert lines.count("options came by link") == 7, "one line each"
    assert "Traceback" not in lines


async def test_a_closed_profile_by_rest_is_403_and_a_sentence(hub: HubServer) -> None:
    visitor, member = await sign_in(hub, "plain"), await sign_in(hub, "data1")
    boss = await sign_in(hub, "boss")
    sentence = "Profile Secret <i> is not open to you. It is open to group data. You are in group others. Ask an"
    for user in ("plain", "boss"):
        status, answer = await hub.api("POST", f"users/{user}/server", {"profile": "secret"})
        assert status == 403
        assert sentence in answer["message"]
    status, answer = await hub.api("POST", "users/plain/server", {"profile": "other", "size": "l"})
    assert status == 403
    assert "Size Large is not open to you. It is open to group data." in answer["message"]
    assert "Secret" not in (await visitor.page("/hub/spawn"))[1]
    assert "Secret" not in (await boss.page("/hub/spawn"))[1]
    assert "Secret &lt;i&gt;" in (await member.page("/hub/spawn"))[1]
    status, page = await visitor.post("/hub/spawn", {"profile": "secret"})
    assert status == 403
    assert "Profile Secret &lt;i&gt; is not open to you." in page
    status, answer = await hub.start_server("data1", options={"profile": "secret"})
    assert status in (201, 202), answer
    await stop_server(hub, "data1")


async def test_the_hub_starts_again_with_whatever_lies_in_its_database(hub: HubServer) -> None:
    boss, visitor = await sign_in(hub, "boss"), await sign_in(hub, "lasting")
    kept = []
    for i, options in enumerate([*(options for options, _ in HOSTILE), *UNREADABLE]):
        # A person may have five named servers.
        user, path = f"lasting{i // 5}", f"users/lasting{i // 5}/servers/n{i}"
        await hub.api("POST", f"users/{user}")
        if (await rest(hub, "PUT", path, body(options)))[0] == 201:
            kept.append(path)
    assert len(kept) >= len(HOSTILE)
    await hub.stop()
    await hub.start()
    await nothing_is_broken(hub, visitor, boss)
    for path in kept:
        status, answer = await rest(hub, "POST", path)
        assert status == 400, answer
        assert (await rest(hub, "DELETE", path, b'{"remove": true}'))[0] == 204
