"""Our client of the hub's REST interface, on a real hub: answers about one server, errors about the hub."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from daas_hub.clients.hub import Answer, HubClient
from daas_hub.core.errors import HubUnavailable
from tests.servers.hub import HubServer
from tests.servers.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)
NARROW = secrets.token_hex(16)
CONFIG = f"""
import asyncio, os
from jupyterhub.spawner import SimpleLocalProcessSpawner
from tornado import web
class Slow(SimpleLocalProcessSpawner):
    async def start(self):
        if self.user.name in ("refused", "a@b ü"):
            raise web.HTTPError(403, "over the limit")
        if self.name == "slow":
            await asyncio.sleep(6)
        return await super().start()
c.JupyterHub.spawner_class = Slow
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 3}}
c.Spawner.cmd = ["python", "-c", '''
import http.server, os
from urllib.parse import urlparse
url = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("X-JupyterHub-Version", "6.1.1"); self.end_headers()
http.server.HTTPServer((url.hostname, url.port), H).serve_forever()
''']
c.JupyterHub.services.append({{"name": "narrow", "api_token": {NARROW!r}}})
c.JupyterHub.load_roles.append({{"name": "narrow", "services": ["narrow"], "scopes": ["read:users:name"]}})
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    root: Path = tmp_path_factory.mktemp("hub")
    server = HubServer(root, CONFIG)

    async def start() -> None:
        await server.start()
        for name in ("zoe", "refused", "a@b ü"):
            status, answer = await server.api("POST", f"users/{quote(name)}")
            assert status == 201, answer

    async def stop() -> None:
        for path in ("users/zoe/server", "users/zoe/servers/slow"):
            await server.api("DELETE", path)
        await server.stop()

    try:
        asyncio.run(start())
        yield server
    finally:
        asyncio.run(stop())


async def test_a_start_and_what_else_the_hub_says(hub: HubServer) -> None:
    client = HubClient(f"{hub.hub_url}/hub/api/", hub.token)
    try:
        assert (await client.start_server("zoe", ""))[0] in (Answer.DONE, Answer.PENDING)

        async def ready(name: str = "") -> bool:
            model = await hub.server("zoe", name)
            return bool(model and model["ready"])

        await until(ready, within_s=30, what="server ready")
        answer, text = await client.start_server("zoe", "")
        assert answer is Answer.REFUSED
        assert "already running" in text
        assert (await client.start_server("nobody", ""))[0] is Answer.NO_SUCH
        # Names arrive as they are, so that it is this person who is refused and not an unknown one.
        for name, server in (("refused", ""), ("a@b ü", "two")):
            answer, text = await client.start_server(name, server)
            assert answer is Answer.REFUSED
            assert "over the limit" in text
        assert (await client.start_server("zoe", "slow"))[0] is Answer.PENDING
        assert (await client.start_server("zoe", "slow"))[0] is Answer.PENDING
        await until(lambda: ready("slow"), within_s=60, what="the slow server ready")
    finally:
        client.close()


@pytest.mark.parametrize("token", ["0" * 32, NARROW], ids=["of nobody", "of somebody else"])
async def test_a_token_that_may_not_is_an_error_that_names_the_hub(hub: HubServer, token: str) -> None:
    client = HubClient(f"{hub.hub_url}/hub/api", token)
    try:
        with pytest.raises(HubUnavailable, match="The hub refuses POST /users/zoe/server: 403") as refused:
            await client.start_server("zoe", "")
        assert token not in str(refused.value)
    finally:
        client.close()


async def test_no_hub_and_a_silent_hub_are_errors_in_time() -> None:
    client = HubClient(f"http://127.0.0.1:{free_port()}/hub/api", "t", timeout_s=0.5)
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, answers nothing
    port = silent.getsockname()[1]
    other = HubClient(f"http://127.0.0.1:{port}/hub/api", "t", timeout_s=0.5)
    try:
        for one in (client, other):
            async with asyncio.timeout(5):
                with pytest.raises(HubUnavailable, match="cannot be asked"):
                    await one.start_server("zoe", "")
    finally:
        client.close()
        other.close()
        silent.close()
