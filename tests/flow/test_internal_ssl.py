"""TLS between hub, proxy and servers (JupyterHub's internal_ssl): a certificate for each launch, and for it alone."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import signal
import sqlite3
import ssl
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import local_probe
from daas_hub.core.models import Handle, LaunchState
from tests.flow.site import Site
from tests.servers.adopt import adopt
from tests.servers.port_trap import new_book, port_trap, received
from tests.servers.reachable_python import singleuser
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(180)]


QUICK = """
c.Reconciler.every_s = 2
c.Culler.read_ledger_every_s = 1
c.Culler.rules = [{"name": "Large", "profiles": ["large"], "idle_after_s": 2}]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Real JupyterLab servers behind the Node proxy; the services look often."""
    made = Site(cmd=[singleuser()], more=QUICK)
    made.internal_ssl = True
    try:
        asyncio.run(made.start())
        asyncio.run(made.sign_in("ada"))
        yield made
    finally:
        asyncio.run(made.stop())


def handle_of(site: Site, name: str) -> Handle:
    (row,) = [r for r in site.launches() if r.state is LaunchState.RUNNING and r.user_name == name]
    assert row.handle is not None
    return row.handle


def certificate(handle: Handle) -> Path:
    """The copy that the account has."""
    return Path(handle["dir"]) / "own/certfile"


async def forget(site: Site) -> None:
    """The hub dies, and its database no longer has the server."""
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    with closing(sqlite3.connect(site.state / "jupyterhub.sqlite")) as db, db:
        db.execute("DELETE FROM servers WHERE id IN (SELECT server_id FROM spawners)")
        db.execute("UPDATE spawners SET state = '{}', server_id = NULL")


def names_of(certificate: Path) -> str:
    argv = ["openssl", "x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[1].strip()


async def started(site: Site, name: str) -> Handle:
    assert (await site.hub.start_server(name))[0] in (201, 202)
    return handle_of(site, name)


async def token_of(site: Site, name: str) -> str:
    status, made = await site.hub.api("POST", f"users/{name}/tokens", {"note": "test"})
    assert status == 201, made
    return str(made["token"])


async def by_proxy(site: Site, name: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    """What a browser gets: the proxy asks the server."""
    method = "GET" if body is None else "POST"
    headers = {"Authorization": f"token {token}"}
    return await site.hub.http(method, f"{site.hub.url}/user/{name}/{path}", body, headers)


def hubs(site: Site) -> dict[str, str]:
    """The hub's own certificate."""
    place = site.state / "internal-ssl"
    files = {"client_key": "hub-internal/hub-internal.key", "client_cert": "hub-internal/hub-internal.crt"}
    return {name: str(place / path) for name, path in (files | {"ca_certs": "hub-ca_trust.crt"}).items()}


def own(handle: Handle) -> dict[str, str]:
    """The certificate of a server, as its own account can use it."""
    folder = Path(handle["dir"]) / "own"
    files = {"client_key": "keyfile", "client_cert": "certfile", "ca_certs": "cafile"}
    return {name: str(folder / path) for name, path in files.items()}


def asked(handle: Handle, files: dict[str, str], authorities: str) -> int:
    """The status of a server asked directly, with some certificate. Blocks; raises OSError where TLS is refused."""
    context = ssl.create_default_context(cafile=authorities)
    context.load_cert_chain(files["client_cert"], files["client_key"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"https://{handle['host']}:{handle['port']}{handle['service_prefix']}api", timeout=10) as answer:
        return int(answer.status)


@pytest.fixture(scope="module")
def pair(site: Site) -> tuple[Handle, Handle]:
    """Ada's server and bob's, which run at the same time, for all tests."""

    async def start() -> tuple[Handle, Handle]:
        await site.sign_in("bob")
        return await started(site, "ada"), await started(site, "bob")

    return asyncio.run(start())


async def test_behind_the_proxy_and_over_hubs_that_end_and_forget(site: Site, pair: tuple[Handle, Handle]) -> None:
    handle = pair[0]
    token = await token_of(site, "ada")
    status, kernel = await by_proxy(site, "ada", "api/kernels", token, {})
    assert status == 201, kernel
    before = certificate(handle).read_bytes()
    authority = (site.state / "internal-ssl/notebooks-ca/notebooks-ca.crt").read_bytes()

    async def same() -> None:
        model = await site.hub.server("ada")
        assert model is not None
        assert model["ready"]
        assert handle_of(site, "ada")["pid"] == handle["pid"]
        assert certificate(handle).read_bytes() == before
        status, kernels = await by_proxy(site, "ada", "api/kernels", token)
        assert (status, [one["id"] for one in kernels]) == (200, [kernel["id"]])

    # An ordinary restart: the hub asks the server at its start whether it is there.
    await site.hub.stop()
    await site.hub.start()
    await same()
    # The command that asks the hub from beside it, too: there is nothing to do, which only the hub can tell.
    status, said = await adopt(site.hub, "--dry-run")
    assert (status, "does not answer" in said, "not asked" in said) == (0, False, False), said
    # The hub dies and forgets: the reconciler asks the server and then the hub, which takes it over.
    await forget(site)
    await site.hub.start()

    async def found() -> bool:
        model = await site.hub.server("ada")
        return bool(model and model["ready"])

    await until(found, within_s=60, every_s=0.2, what="taken over")
    await same()
    assert (site.state / "internal-ssl/notebooks-ca/notebooks-ca.crt").read_bytes() == authority


async def test_each_has_a_certificate_of_its_own_that_nobody_else_reads(
    site: Site, pair: tuple[Handle, Handle]
) -> None:
    hers, his = pair
    for handle, name in ((hers, "ada"), (his, "bob")):
        assert names_of(certificate(handle)) == f"IP Address:{handle['host']}"
        for kind in ("keyfile", "certfile", "cafile"):
            copy = (Path(handle["dir"]) / "own" / kind).stat()
            assert (copy.st_uid, stat.S_IMODE(copy.st_mode)) == (site.person(name).uid, 0o600)
    assert hers["host"] != his["host"]
    # Nothing stays with the hub, where JupyterHub would keep a key for each user.
    kept = {path.name for path in (site.state / "internal-ssl").iterdir()}
    assert not {name for name in kept if name.startswith(("launch-", "user-ada", "user-bob"))}, kept
    keys = list((site.state / "internal-ssl").rglob("*.key"))
    assert keys
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    trusted = hubs(site)["ca_certs"]
    assert await asyncio.to_thread(asked, hers, hubs(site), trusted) == 200
    # A server lets nobody in with the certificate of another one.
    with pytest.raises(OSError, match=r"certificate|alert|closed|reset|EOF"):
        await asyncio.to_thread(asked, hers, own(his), trusted)


def reported(site: Site, handle: Handle, certified: dict[str, str] | None) -> int:
    """What the hub itself says to a report of this server, past the proxy. Blocks; OSError where TLS is refused."""
    variables = dict(v.partition("=")[::2] for v in Path(f"/proc/{handle['pid']}/environ").read_text().split("\0"))
    context = ssl.create_default_context(cafile=own(handle)["ca_certs"])
    if certified is not None:
        context.load_cert_chain(certified["client_cert"], certified["client_key"])
    headers = {"Authorization": f"token {variables['JUPYTERHUB_API_TOKEN']}"}
    connection = http.client.HTTPSConnection("127.0.0.1", site.hub.hub_port, timeout=20, context=context)
    with closing(connection):
        connection.request("POST", "/hub/api/daas/report", b'{"port": 40000}', headers)
        return connection.getresponse().status


async def test_a_server_reports_with_its_own_certificate(site: Site, pair: tuple[Handle, Handle]) -> None:
    # 409: it is known there, and the hub chose its port itself.
    assert await asyncio.to_thread(reported, site, pair[0], own(pair[0])) == 409
    with pytest.raises(OSError, match=r"certificate|alert|closed|reset|EOF"):
        await asyncio.to_thread(reported, site, pair[0], None)


async def test_who_takes_over_a_port_is_asked_nothing(site: Site, pair: tuple[Handle, Handle]) -> None:
    hers, his = pair
    token = await token_of(site, "ada")
    book = new_book(site.root)
    # Ada's, as bob could have it only by a fault: the trap works, and it is the certificate that keeps him out.
    stolen = site.root / "stolen"
    shutil.copytree(
        Path(hers["dir"]) / "own", stolen / "own", ignore=lambda _, names: {n for n in names if "file" not in n}
    )
    for file in (stolen, *stolen.rglob("*")):
        os.chown(file, site.person("bob").uid, site.person("bob").gid)
    # With the hub gone nobody takes the route away when her server ends; the proxy goes on.
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    os.kill(hers["pid"], signal.SIGKILL)
    try:
        await until(lambda: not site.servers("ada"), within_s=20, what="her server has ended")
        path = f"{hers['service_prefix']}api"
        for files, lets_in in ((own(his), False), (own({"dir": str(stolen)}), True)):
            with port_trap(site.person("bob"), hers["host"], hers["port"], files, book):
                status, _ = await by_proxy(site, "ada", "api/status", token)
                assert (status == 200) is lets_in
                answered = await local_probe.answers(hers["port"], path, host=hers["host"], files=hubs(site))
                assert answered is lets_in
            assert ("request" in received(book)) is lets_in
    finally:
        # It ends the proxy that the one before has left.
        await site.hub.start()


async def test_the_culler_asks_servers_and_ends_an_idle_one(site: Site, pair: tuple[Handle, Handle]) -> None:
    assert (await site.hub.start_server("ada", options={"profile": "large"}))[0] in (201, 202)
    again = handle_of(site, "ada")
    assert again["host"] != pair[0]["host"]
    assert names_of(certificate(again)) == f"IP Address:{again['host']}"
    await until(lambda: site.launches()[0].state is LaunchState.ENDED, within_s=60, every_s=0.2, what="ended as idle")
    assert "idle" in site.launches()[0].reason
