"""Tokens for other services in a running server: hers alone, renewed, gone before they are over, back when they can be.

Real hub, real slapd, a provider that rotates refresh tokens and takes a reuse for theft, servers as real uids.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from daas_hub.core.models import LaunchState
from tests.faults.aftermath import watched_site
from tests.faults.leaks import NOBODY, leaks, site_processes, watched_argv
from tests.flow.site import Site
from tests.servers.evil_provider import EvilProvider
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.slapd import PEOPLE
from tests.servers.tiny_server import get
from tests.servers.visitor import Visitor, location
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("root", "slapd"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

MORE = """
c.JupyterHub.authenticator_class = "daas_hub.auth.multi.DaasAuthenticator"
_directory = dict(c.DaasLDAPAuthenticator)
del c["DaasLDAPAuthenticator"]
c.DaasAuthenticator.ways = [
    {{"kind": "ldap", "name": "site", "settings": _directory}},
    {{"kind": "oidc", "name": "first", "settings": {{
        "issuer": "{issuer}", "client_id": "{client}", "client_secret_file": "{secret}", "allow_plaintext": True,
        "logout_stops_servers": False, "answer_within_s": 2,
        "site_tokens": {{"storage": {{"audience": "storage"}}, "vault": {{"audience": "nobody-may"}}}},
    }}}},
]
c.LocalBackend.site_tokens_margin_s = 2
"""
SHORT_S, LONG_S = 7, 32
"""How long the provider's tokens for services are good: some renewals in one test; longer than a restart of the hub."""


@dataclass
class Place:
    """The hub, ada's browser, and her server."""

    site: Site
    provider: EvilProvider
    port: int = 0
    folder: str = ""
    seen: set[str] = field(default_factory=set)

    async def come(self) -> str:
        """Sign in by the provider; where that leads."""
        who = Visitor(self.site.hub.hub_url)
        answer = location(
            await who.get(self.provider.approve(location(await who.get("/hub/oidc/first/login?next=/hub/home"))))
        )
        if answer == "/hub/daas/link":
            assert (await who.get(answer)).code == 200
            proved = await who.post(answer, {"username": "ada", "password": "ada-secret", "way": "site"})
            answer = location(await who.get(self.provider.approve(location(proved))))
        return answer

    async def ask(self, what: str, port: int = 0, name: str = "ada") -> Any:
        """What a server answers."""
        return await asyncio.to_thread(get, f"http://127.0.0.1:{port or self.port}/user/{name}/{what}")

    async def read(self, file: str) -> str:
        """A file of the folder as a process of her server reads it; empty where it cannot."""
        asked_at = time.time()
        text = str((await self.ask(f"read?{self.folder}/{file}")).get("text", ""))
        if file == "storage" and text:
            # While it was asked for: on a busy machine the answer may take longer than the token lasts.
            assert self.provider.good(text, asked_at), "a token that is over could be read"
            self.seen.add(text)
        return text

    async def fresh(self, other_than: str = "") -> str:
        """Wait for a token, or for another one."""

        async def there() -> str:
            text = await self.read("storage")
            return text if text != other_than else ""

        return str(await until(there, within_s=60, what="a fresh token"))

    async def lasting(self, seconds: int) -> str:
        """Wait for a token that is good for so long; so are those after it."""
        before, self.provider.exchanged_last_s = len(self.provider.exchanged), seconds

        async def there() -> str:
            text = await self.read("storage")
            return text if text in {one.value for one in self.provider.exchanged[before:]} else ""

        return str(await until(there, within_s=30, what=f"a token that is good for {seconds} s"))

    async def gone(self) -> str:
        """Wait until there is none; why."""
        return str(await until(lambda: self.read("storage.missing"), within_s=60, what="the sentence in its place"))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Read the token all the time: whenever there is one, its service would take it."""

        async def watch() -> None:
            while True:
                await self.read("storage")
                # Once more at once, and the processor would do nothing else.
                await asyncio.sleep(0.02)

        task = asyncio.create_task(watch())
        try:
            yield
            assert not task.done(), await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def add_tokens(site: Site, provider: EvilProvider) -> None:
    """Let people sign in by the provider, too, and their servers have its tokens; before the site starts."""
    secret = site.state / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    site.more += MORE.format(issuer=provider.issuer, client=CLIENT, secret=secret)


async def started(site: Site, name: str, server: str = "") -> int:
    """Start a server; its port."""
    status, said = await site.hub.start_server(name, server, options={"profile": "basic"})
    assert status in (201, 202), said
    running = [r for r in site.launches() if r.user_name == name and r.state is LaunchState.RUNNING]
    (row,) = [r for r in running if r.server_name == server]
    return int(row.handle["port"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    provider = await EvilProvider(exchanged_last_s=SHORT_S, access_last_s=12).start()
    site = watched_site()
    add_tokens(site, provider)
    made = Place(site, provider)
    try:
        await site.start()
        assert await made.come() == "/hub/home"
        made.port = await started(site, "ada")
        made.folder = (await made.ask("whoami"))["environment"]["DAAS_SITE_TOKENS"]
        yield made
        assert provider.reused == 0, "her refresh token was used twice"
    finally:
        await site.stop()
        await provider.stop()


async def test_her_own_token_in_a_file_that_is_hers_alone(place: Place) -> None:
    value = await place.fresh()
    (made,) = [one for one in place.provider.exchanged if one.value == value]
    assert (made.sub, made.audience) == ("1", "storage")
    assert await place.read("storage.expires")
    refused = await until(lambda: place.read("vault.missing"), what="why there is no token for the vault")
    assert "refuses it (invalid_target)" in refused
    stat = quote(json.dumps(["stat", "-c", "%u %a", f"{place.folder}/storage"]))
    assert (await place.ask(f"run?{stat}"))["text"].split() == [str(PEOPLE["ada"].uid), "400"]
    # Whoever shares her group may see what they are called, and no more; others not even that.
    assert PEOPLE["bob"].gid == PEOPLE["ada"].gid
    for uid, gid, argv in ((PEOPLE["bob"].uid, PEOPLE["bob"].gid, ["cat", "storage"]), (NOBODY, NOBODY, ["ls", "."])):
        argv[1] = f"{place.folder}/{argv[1]}"
        done = subprocess.run(argv, capture_output=True, text=True, user=uid, group=gid, extra_groups=[], cwd="/")
        assert done.returncode != 0
        assert "ermission denied" in done.stderr
    # She owns the file, and no folder on the way to it.
    trap = quote(json.dumps(["ln", "-s", "/etc/shadow", f"{place.folder}/trap"]))
    assert "ermission denied" in (await place.ask(f"run?{trap}"))["text"]


async def test_it_is_renewed_again_and_again_and_never_old(place: Place) -> None:
    async with place.watched():
        value = await place.fresh()
        for _ in range(2):
            value = await place.fresh(value)
    assert place.provider.grants["refresh_token"], "her access token was never old in this time"
    assert place.provider.reused == 0


async def test_a_provider_that_is_silent(place: Place) -> None:
    async with place.watched():
        await place.fresh()
        place.provider.faults = {"token": "hang"}
        assert "could not be asked in time" in await place.gone()
        assert await place.read("storage") == ""
        assert (await place.ask("whoami"))["pid"] > 0
        place.provider.faults = {}
        await place.fresh()
    assert await place.read("storage.missing") == ""


async def test_a_sign_in_that_is_over_and_the_next_one(place: Place) -> None:
    async with place.watched():
        await place.fresh()
        place.provider.end_all()
        assert "Sign in to the hub again" in await place.gone()
        asked = place.provider.calls["token"]
        assert await place.come() == "/hub/home"
        await place.fresh()
    assert place.provider.calls["token"] > asked


async def test_the_next_hub_goes_on_with_it(place: Place) -> None:
    pid = (await place.ask("whoami"))["pid"]
    before = await place.lasting(LONG_S)
    await place.site.hub.stop()
    place.provider.faults = {"token": "reset"}
    await place.site.hub.start()
    # A provider that is away when the hub begins takes nothing away that is good.
    assert await place.read("storage") == before
    place.provider.faults, place.provider.exchanged_last_s = {}, SHORT_S
    await place.fresh(before)
    assert (await place.ask("whoami"))["pid"] == pid


async def test_while_no_hub_is_there_nothing_grows_old(place: Place) -> None:
    """Killed, so that it could do nothing about it."""
    await place.lasting(SHORT_S)
    place.site.hub.signal(signal.SIGKILL)
    await place.site.hub.wait_gone()
    async with place.watched():
        await until(lambda: not_there(place), within_s=30, what="the token that is over is gone")
        assert (await place.ask("whoami"))["pid"] > 0
        await place.site.hub.start()
        await place.fresh()


async def not_there(place: Place) -> bool:
    return await place.read("storage") == ""


async def test_a_start_while_her_sign_in_is_over(place: Place) -> None:
    """The directory knows her, so she may start; only her tokens are marked missing."""
    place.provider.end_all()
    await place.gone()
    port = await started(place.site, "ada", "second")

    async def said() -> str:
        folder = (await place.ask("second/whoami", port))["environment"]["DAAS_SITE_TOKENS"]
        return str((await place.ask(f"second/read?{folder}/storage.missing", port)).get("text", ""))

    assert "Sign in to the hub again" in await until(said, what="why her second server has no token")
    assert (await place.site.hub.api("DELETE", "users/ada/servers/second"))[0] in (202, 204)
    assert await place.come() == "/hub/home"
    await place.fresh()


async def test_whoever_came_by_the_directory_is_told(place: Place) -> None:
    await place.site.sign_in("bob")
    port = await started(place.site, "bob")
    folder = (await place.ask("whoami", port, "bob"))["environment"]["DAAS_SITE_TOKENS"]

    async def said() -> str:
        return str((await place.ask(f"read?{folder}/storage.missing", port, "bob")).get("text", ""))

    assert "did not sign in by an identity provider" in await until(said, what="why bob has no token")


async def test_nobody_else_has_it_anywhere(place: Place) -> None:
    """No log, argv, environment, database or file but its own; whoever may read those."""
    await place.fresh()
    assert place.seen
    values = [one.value.encode() for one in place.provider.exchanged]
    places = [path for path in place.site.root.rglob("*") if path.is_file() and "site_tokens" not in str(path)]
    assert any(path.suffix == ".sqlite" for path in places)
    texts = {str(path): path.read_bytes() for path in places if path.exists()}
    for pid in site_processes(place.site):
        for name in ("cmdline", "environ"):
            texts[f"{pid} {name}"] = await asyncio.to_thread(bytes_of, Path(f"/proc/{pid}/{name}"))
    texts |= {f"argv of {pid}": argv for argv, pid in watched_argv(place.site).items()}
    assert [where for where, text in texts.items() for value in values if value in text] == []
    assert await asyncio.to_thread(leaks, place.site) == []


def bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_the_end_of_her_access_takes_it_away_at_once(place: Place) -> None:
    """The provider ends her sign-in; where that lets the server go on, its tokens go all the same, good as they are."""
    value = await place.lasting(LONG_S)
    hub = place.site.hub
    body = f"logout_token={place.provider.logout_token('1')}".encode()
    status, said = await hub.http("POST", f"{hub.hub_url}/hub/oidc/first/logout", body)
    assert status == 200, said
    assert "ended there" in await place.gone()
    assert await place.read("storage") == ""
    assert place.provider.good(value)
    assert (await place.ask("whoami"))["pid"] > 0


async def test_nothing_is_left_of_a_server_that_was_stopped(place: Place) -> None:
    assert await place.come() == "/hub/home"
    await place.fresh()
    assert Path(place.folder).is_dir()
    assert (await place.site.hub.api("DELETE", "users/ada/server"))[0] in (202, 204)
    await until(lambda: not Path(place.folder).parent.exists(), within_s=30, what="her launch's folder is gone")
