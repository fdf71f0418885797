"""A real hub whose directory falls silent: its pages answer meanwhile, and the login says what is the matter."""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.demo import Visitor
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.hub import HubServer
from tests.servers.slapd import BASE, SERVICE_DN, SERVICE_PASSWORD, Slapd

pytestmark = [pytest.mark.needs("slapd"), pytest.mark.timeout(120)]
CONFIG = """
c.JupyterHub.authenticator_class = "daas-ldap"
c.JupyterHub.spawner_class = "simple"
c.DaasLDAPAuthenticator.server_uris = ["ldap://127.0.0.1:{port}"]
c.DaasLDAPAuthenticator.tls_ca_file = "{ca}"
c.DaasLDAPAuthenticator.bind_dn = "{bind_dn}"
c.DaasLDAPAuthenticator.bind_password_file = "{password_file}"
c.DaasLDAPAuthenticator.user_search_base = "ou=people,{base}"
c.DaasLDAPAuthenticator.group_search_base = "ou=groups,{base}"
c.DaasLDAPAuthenticator.allowed_groups = {{"lab"}}
"""


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[FaultProxy]:
    (tmp_path / "slapd").mkdir()
    slapd = await Slapd(tmp_path / "slapd", Path("/home")).start()
    proxy = await FaultProxy(slapd.port).start()
    yield proxy
    await proxy.stop()
    await slapd.stop()


@pytest.fixture
async def hub(tmp_path: Path, proxy: FaultProxy) -> AsyncIterator[HubServer]:
    slapd = tmp_path / "slapd"
    password_file = tmp_path / "service_password"
    password_file.write_text(SERVICE_PASSWORD)
    config = CONFIG.format(
        port=proxy.port, ca=slapd / "ca.pem", bind_dn=SERVICE_DN, password_file=password_file, base=BASE
    )
    hub = HubServer(tmp_path, config)
    await hub.start()
    yield hub
    await hub.stop()


async def sign_in(hub: HubServer, name: str, password: str | None = None) -> tuple[int, str]:
    """Status and the sentence above the login form."""
    person = {"name": name, "password": password or f"{name}-secret"}
    status, page = await Visitor(hub.hub_url).sign_in(person)
    said = re.search(r'class="[^"]*login_error[^"]*"[^>]*>(.*?)</p>', page, re.DOTALL)
    return status, html.unescape(said[1].strip()) if said else ""


async def health(hub: HubServer) -> float:
    """Seconds until the health page answers. Without a thread: the logins hold those that there are."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.hub_port)
    writer.write(b"GET /hub/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    return time.monotonic() - began


async def test_each_outcome_is_told_in_its_own_words(hub: HubServer, proxy: FaultProxy) -> None:
    wrong, unknown = await sign_in(hub, "ada", "wrong"), await sign_in(hub, "nobody-of-that-name")
    locked, not_allowed = await sign_in(hub, "locked"), await sign_in(hub, "eve")
    await proxy.stop()
    down = await sign_in(hub, "ada")
    await proxy.start()
    assert wrong == unknown == (403, "Invalid username or password")
    assert [locked[0], not_allowed[0], down[0]] == [403, 403, 503]
    assert "locked" in locked[1]
    assert "not open to you" in not_allowed[1]
    assert "try again" in down[1]

    endless = "x" * 300_000
    assert (await sign_in(hub, endless, "wrong"))[0] == 403
    assert (await sign_in(hub, "ada", endless))[0] == 403
    visitor = Visitor(hub.hub_url)
    await visitor.sign_in({"name": "ada", "password": "ada-secret"})
    assert any(cookie.name == "jupyterhub-session-id" for cookie in visitor.jar)
    status, ada = await hub.api("GET", "users/ada")
    assert (status, ada["groups"], ada["admin"]) == (200, ["lab"], False)

    log = hub.log_text()
    assert "x" * 100 not in log
    assert not [s for s in ("ada-secret", "locked-secret", "eve-secret", SERVICE_PASSWORD) if s in log]


async def test_health_answers_while_the_directory_says_nothing(hub: HubServer, proxy: FaultProxy) -> None:
    proxy.fault = Fault.SILENT
    began = time.monotonic()
    crowd = [asyncio.ensure_future(sign_in(hub, name)) for name in ("ada", "bob", "boss") * 4]
    longest, asked = 0.0, 0
    while not all(login.done() for login in crowd):
        longest, asked = max(longest, await health(hub)), asked + 1
        await asyncio.sleep(0.02)
    took = time.monotonic() - began
    answers = [login.result() for login in crowd]
    assert {status for status, _ in answers} == {503}
    assert all("try again" in said for _, said in answers)
    # The logins hung, for the time that one may take and no longer; the loop did not.
    assert 5 < took < 12
    assert asked > 50
    assert longest < 1
