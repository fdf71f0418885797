"""`daas-hub doctor` and a configurable-http-proxy that the hub does not start, with and without our hook."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import pytest
from jupyterhub.app import JupyterHub
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.proxy import ConfigurableHTTPProxy
from traitlets.config import Config

from daas_hub.cli.adopt_hub import tls_of
from daas_hub.cli.doctor_proxy import proxy, verdict
from daas_hub.cli.finding import Finding
from daas_hub.clients.proxy_look import Came
from daas_hub.wiring.launch_names import HOOK
from tests.servers.npm import proxy_command
from tests.servers.ports import free_port
from tests.waiting import until

pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(120)]
HOOKED = {"NODE_OPTIONS": f"--require={HOOK}"}


class Site:
    """A hub's settings, with the authorities of its internal_ssl; the hub itself does not run."""

    def __init__(self, root: Path) -> None:
        self.port, self.api_port, self.token = free_port(), free_port(), secrets.token_hex(16)
        self.config = Config(
            JupyterHub={
                "bind_url": f"http://:{self.port}",
                "internal_ssl": True,
                "internal_certs_location": str(root / "internal-ssl"),
            },
            ConfigurableHTTPProxy={
                "should_start": False,
                "api_url": f"https://127.0.0.1:{self.api_port}",
                "auth_token": self.token,
            },
        )
        self.ssl_options = asyncio.run(self.authorities())

    async def authorities(self) -> list[str]:
        """Make them as a hub does; what a proxy is told of them."""
        made = self.hub()
        made.init_internal_ssl()
        # It has made a client for all of this process.
        JupyterHubHTTPClient.clear_instance()
        return list(ConfigurableHTTPProxy(parent=made, app=made)._get_ssl_options())

    def hub(self, **more: object) -> JupyterHub:
        config = Config(self.config)
        config.ConfigurableHTTPProxy = Config({**self.config.ConfigurableHTTPProxy, **more})
        return JupyterHub(config=config)

    def found(self, **more: object) -> list[Finding]:
        return list(proxy(self.hub(**more), 10))

    @contextmanager
    def running(self, environment: dict[str, str], log: Path) -> Iterator[None]:
        """The proxy, as systemd would run it beside the hub."""
        where = ["--ip=127.0.0.1", f"--port={self.port}", "--api-ip=127.0.0.1", f"--api-port={self.api_port}"]
        given = {**os.environ, "CONFIGPROXY_AUTH_TOKEN": self.token, **environment}
        with log.open("wb") as out:
            process = subprocess.Popen([*proxy_command(), *where, *self.ssl_options], env=given, stdout=out, stderr=out)

        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.api_port), 1):
                return True
            return False

        try:
            asyncio.run(until(answers, what="the proxy listens"))
            yield
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("proxy"))


def routes(site: Site) -> dict[str, object]:
    """What is left in the proxy."""
    files = tls_of(site.hub())
    context = ssl.create_default_context(cafile=files["ca_certs"])
    context.load_cert_chain(files["client_cert"], files["client_key"])
    request = Request(f"https://127.0.0.1:{site.api_port}/api/routes", headers={"Authorization": f"token {site.token}"})
    with build_opener(ProxyHandler({}), HTTPSHandler(context=context)).open(request, timeout=10) as answer:
        return dict(json.load(answer))


def test_a_proxy_with_the_hook_is_right_and_one_without_is_an_error(site: Site, tmp_path: Path) -> None:
    with site.running(HOOKED, tmp_path / "with.log"):
        (finding,) = site.found()
        assert (finding.level, "checks these names" in finding.found) == ("ok", True), finding
        # A token that is not the proxy's is told as what it is.
        (finding,) = site.found(auth_token="another")
        assert (finding.level, "403" in finding.found) == ("error", True), finding
        assert routes(site) == {}
    with site.running({}, tmp_path / "without.log"):
        (finding,) = site.found()
        assert (finding.level, "has not been given the hook" in finding.found) == ("error", True), finding
        assert f'NODE_OPTIONS="--require={HOOK}"' in finding.fix
        assert routes(site) == {}
    (finding,) = site.found()
    assert (finding.level, finding.found.startswith("The proxy does not answer: its API at https://")) == (
        "error",
        True,
    )


def test_what_cannot_be_seen_is_a_note(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFIGPROXY_AUTH_TOKEN", raising=False)
    (finding,) = site.found(auth_token="")
    assert (finding.level, "CONFIGPROXY_AUTH_TOKEN" in finding.found) == ("note", True)
    (finding,) = site.found(should_start=True)
    assert finding.level == "ok"
    (finding,) = site.found(api_url="http+unix://%2Frun%2Fproxy.sock")
    assert finding.level == "note"
    site_without = site.hub()
    site_without.internal_certs_location = str(tmp_path)
    (finding,) = proxy(site_without, 10)
    assert (finding.level, "start the hub once" in finding.fix) == ("note", True)
    site_without.internal_ssl = False
    assert list(proxy(site_without, 10)) == []


def test_what_arrives_tells_what_is_missing() -> None:
    there, nothing = Came(True, ""), Came()
    assert verdict("x", there, Came(True, "a.b"), "a.b").level == "ok"
    assert verdict("x", nothing, nothing, "a.b").level == "note"
    wrong = verdict("x", there, Came(True, "hub.example.org"), "a.b")
    assert (wrong.level, '"hub.example.org", the name that the browser says' in wrong.found) == ("error", True)
