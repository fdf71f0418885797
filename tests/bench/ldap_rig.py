"""A slapd with a lecture's people, a slow way to it, and the two sides that sign in there."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.peers import python_of
from tests.servers.fault_proxy import FaultProxy
from tests.servers.hub import HubServer
from tests.servers.slapd import BASE, SERVICE_DN, SERVICE_PASSWORD, Slapd

PEOPLE = {f"student{n:03}": f"student{n:03}-secret" for n in range(100)}
GROUPS = [f"course{n}" for n in range(5)]
OURS, PEER = "daas_hub.auth.ldap:DaasLDAPAuthenticator", "ldapauthenticator:LDAPAuthenticator"


class SlowWay(FaultProxy):
    """Half of ``rtt_s`` each way, and the whole of it for a connection to be made; counts what the directory says."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.rtt_s = 0.0
        self.said = 0

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.rtt_s)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        loop = asyncio.get_running_loop()

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
            while data := await source.read(65536):
                if answers:
                    self.said += len(data)
                if self.rtt_s:
                    loop.call_later(self.rtt_s / 2, sink.write, data)
                else:
                    sink.write(data)

        both = [asyncio.ensure_future(carry(reader, back, answers=False)),
                asyncio.ensure_future(carry(there, writer, answers=True))]  # fmt: skip
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(self.rtt_s)
        finally:
            back.close()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


class Lecture(Slapd):
    """``PEOPLE``, each in five groups; the peer reads groups as the person, so everybody may."""

    def config_text(self) -> str:
        return super().config_text().replace("read by anonymous auth by * none", "read by users read by * auth")

    def group_ldif(self) -> list[str]:
        people = [
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {name}\n"
            f"cn: {name}\nsn: Test\nmail: {name}@site.test\nuidNumber: {21000 + n}\ngidNumber: 30001\n"
            f"homeDirectory: {self.homes}/{name}\nloginShell: /bin/bash\nuserPassword: {password}"
            for n, (name, password) in enumerate(PEOPLE.items())
        ]
        members = "".join(f"\nmemberUid: {name}" for name in PEOPLE)
        groups = [
            f"dn: cn={name},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {31000 + n}{members}"
            for n, name in enumerate(GROUPS)
        ]
        return [*people, *groups]


class Rig:
    """The directory, the way to it, and how each side is told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "slapd").mkdir()
        self.slapd = Lecture(root / "slapd", Path("/home"))
        self.way: SlowWay
        self._started = 0

    def settings(self, side: str, *uris: str) -> dict[str, Any]:
        """Both look people up with the service account, and use StartTLS; ours checks the certificate."""
        if side == "ours":
            return {
                "server_uris": list(uris) or [f"ldap://127.0.0.1:{self.way.port}"],
                "tls_ca_file": str(self.slapd.ca_file),
                "bind_dn": SERVICE_DN,
                "bind_password_file": str(self.slapd.password_file),
                "user_search_base": f"ou=people,{BASE}",
                "group_search_base": f"ou=groups,{BASE}",
                "allowed_groups": [GROUPS[-1]],
            }
        return {
            "server_address": "127.0.0.1",
            "server_port": self.way.port,
            "lookup_dn": True,
            "lookup_dn_search_user": SERVICE_DN,
            "lookup_dn_search_password": SERVICE_PASSWORD,
            "user_search_base": f"ou=people,{BASE}",
            "user_attribute": "uid",
            "lookup_dn_user_dn_attribute": "uid",
            "bind_dn_template": [f"uid={{username}},ou=people,{BASE}"],
            "allowed_groups": [f"cn={name},ou=groups,{BASE}" for name in GROUPS[-1:]],
        }

    @asynccontextmanager
    async def alone(self, side: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The authenticator in a process of its own."""
        python = sys.executable if side == "ours" else str(await asyncio.to_thread(python_of, "ldapauthenticator"))
        script = str(Path(__file__).with_name("ldap_logins.py"))
        argv = [python, script, OURS if side == "ours" else PEER, json.dumps(self.settings(side)), json.dumps(PEOPLE)]
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, limit=2**22)
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        try:
            yield child
        finally:
            child.kill()
            await child.wait()

    @asynccontextmanager
    async def hub(self, side: str, *uris: str) -> AsyncIterator[HubServer]:
        """A hub that does nothing but let people in."""
        self._started += 1
        root = self.root / f"hub{self._started}"
        root.mkdir()
        name = (OURS if side == "ours" else PEER).partition(":")[2]
        chosen = "daas-ldap" if side == "ours" else "ldapauthenticator.LDAPAuthenticator"
        lines = [f"c.JupyterHub.authenticator_class = {chosen!r}"]
        for key, value in self.settings(side, *uris).items():
            lines.append(f"c.{name}.{key} = {set(value) if key == 'allowed_groups' and side == 'ours' else value!r}")
        hub = HubServer(root, "\n".join(lines) + "\n")
        if side == "peer":
            hub.python = str(await asyncio.to_thread(python_of, "ldapauthenticator"))
        await hub.start()
        try:
            yield hub
        finally:
            if hub.process is not None and hub.process.poll() is None:
                # A hub that is frozen would not hear a polite word.
                hub.process.kill()
                await asyncio.to_thread(hub.process.wait)


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    """A directory and the way to it."""
    root = Path(tempfile.mkdtemp(prefix="daas-bench-ldap-"))
    made = Rig(root)
    try:
        await made.slapd.start()
        made.way = SlowWay(made.slapd.port)
        await made.way.start()
        yield made
        await made.way.stop()
    finally:
        await made.slapd.stop()
        shutil.rmtree(root, ignore_errors=True)


async def form(hub: HubServer, name: str, password: str) -> tuple[float, int]:
    """Seconds from the button to the answer, and its status (302: signed in)."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, trust_env=False) as http:
        url = f"{hub.hub_url}/hub/login"
        async with http.get(url) as answer:
            await answer.read()
        xsrf = next(cookie.value for cookie in jar if cookie.key == "_xsrf")
        return await _post(http, url, {"username": name, "password": password, "_xsrf": xsrf})


async def _post(http: aiohttp.ClientSession, url: str, data: dict[str, str]) -> tuple[float, int]:
    began = time.perf_counter()
    async with http.post(url, data=data, allow_redirects=False) as answer:
        await answer.read()
        return time.perf_counter() - began, answer.status


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100)[-1]
