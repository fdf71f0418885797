"""The demo's last resort, the pure-Python proxy: what our start of it adds, and what the page says is missing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from daas_hub.demo.proxy_command import CHOSEN, LACKS, proxy_command
from tests.servers.demo import DemoServer, Visitor
from tests.servers.hub import http_call
from tests.servers.kernels import ServerApi
from tests.servers.ports import free_port
from tests.servers.websockets import websocket
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)
ZONE = "Pacific/Auckland"
"""Half a day ahead of UTC: a time without a zone from here is far in the future."""
ITS_LIMIT_S = 20
"""The proxy alone gives up on a reply after this."""
IDLE_S = 20


class Backend:
    """Behind the proxy: a stream of two events, a silent path, a large download, a socket that is closed."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.socket_closed = asyncio.Event()
        backend = self

        class Events(RequestHandler):
            async def get(self) -> None:
                self.write("data: one\n\n")
                await self.flush()
                await backend.go_on.wait()
                self.write("data: two\n\n")

        class Silent(RequestHandler):
            async def get(self) -> None:
                await asyncio.sleep(float(self.get_argument("for_s", "0")))
                self.write("said")

        class Large(RequestHandler):
            async def get(self) -> None:
                stream = self.detach()
                length = self.get_argument("length")
                await stream.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
                await backend.go_on.wait()
                stream.close()

        class Closing(WebSocketHandler):
            async def on_message(self, _message: str | bytes) -> None:
                self.close(1001, "the server ends")

            def on_close(self) -> None:
                backend.socket_closed.set()

        paths = [("/events", Events), ("/silent", Silent), ("/large", Large), ("/closing", Closing)]
        listening, self.port = bind_unused_port()
        self.server = HTTPServer(Application(paths))
        self.server.add_socket(listening)


class PythonProxy:
    """The proxy as the demo starts it, in a zone far from UTC, in front of ``Backend``."""

    def __init__(self, log: Path) -> None:
        self.backend = Backend()
        self.port, self.api_port = free_port(), free_port()
        here = [
            "--ip",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--api-ip",
            "127.0.0.1",
            "--api-port",
            str(self.api_port),
        ]
        target = ["--default-target", f"http://127.0.0.1:{self.backend.port}"]
        env = {**os.environ, "TZ": ZONE, "CONFIGPROXY_AUTH_TOKEN": "t"}
        with log.open("ab") as out:
            argv = [*proxy_command(python=True).argv, *here, *target]
            self.process = subprocess.Popen(argv, env=env, stdout=out, stderr=out)

    async def up(self) -> bool:
        try:
            return (await self.get("/silent"))[0] == 200
        except OSError:
            return False

    async def get(self, path: str) -> tuple[int, Any]:
        return await asyncio.to_thread(http_call, "GET", f"http://127.0.0.1:{self.port}{path}", None, {})

    async def stop(self) -> None:
        self.backend.go_on.set()
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: self.process.poll() is not None, what="proxy gone")
        self.backend.server.stop()
        await self.backend.server.close_all_connections()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[PythonProxy]:
    made = PythonProxy(tmp_path / "proxy.log")
    try:
        await until(made.up, what=f"proxy; log {tmp_path}/proxy.log", every_s=0.1)
        yield made
    finally:
        await made.stop()


async def test_its_times_are_utc_wherever_it_runs(proxy: PythonProxy) -> None:
    url = f"http://127.0.0.1:{proxy.api_port}/api/routes"
    status, routes = await asyncio.to_thread(http_call, "GET", url, None, {"Authorization": "token t"})
    assert status == 200
    stamped = datetime.fromisoformat(routes["/"]["last_activity"]).replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - stamped).total_seconds()) < 3600, "a local time would be half a day off"


async def test_a_reply_may_take_longer_than_its_own_limit(proxy: PythonProxy) -> None:
    assert await proxy.get(f"/silent?for_s={ITS_LIMIT_S + 1}") == (200, "said")


async def test_the_page_is_right_that_a_reply_comes_only_at_its_end(proxy: PythonProxy) -> None:
    came: asyncio.Queue[bytes] = asyncio.Queue()
    request = HTTPRequest(f"http://127.0.0.1:{proxy.port}/events", streaming_callback=came.put_nowait)
    fetching = asyncio.ensure_future(AsyncHTTPClient().fetch(request))
    # Meanwhile the proxy does pass on other things.
    await proxy.get("/silent")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(came.get(), 1)
    proxy.backend.go_on.set()
    await fetching
    assert came.get_nowait() == b"data: one\n\ndata: two\n\n"
    assert "appears only at its end" in LACKS


async def test_the_page_is_right_that_a_closed_socket_is_not_passed_on(proxy: PythonProxy) -> None:
    async with websocket(f"ws://127.0.0.1:{proxy.port}/closing") as socket:
        await socket.write_message("end")
        await asyncio.wait_for(proxy.backend.socket_closed.wait(), 10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.read_message(), 1)
    assert "stays open when its server has ended" in LACKS


@pytest.mark.parametrize(("over", "status"), [(0, None), (1, 503)])
async def test_the_page_is_right_about_large_downloads(proxy: PythonProxy, over: int, status: int | None) -> None:
    """Only the announced length decides, so the bytes need not be sent: what is accepted is waited for."""
    asked = asyncio.ensure_future(proxy.get(f"/large?length={100 * 2**20 + over}"))
    done, _ = await asyncio.wait({asked}, timeout=2)
    assert bool(done) == (status is not None)
    proxy.backend.go_on.set()
    assert (await asked)[0] == 503  # ours breaks off where it was accepted
    assert "100 MB" in LACKS


# ---------------------------------------------------------------- the demo


@pytest.fixture
async def demo(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DemoServer]:
    monkeypatch.setenv("TZ", ZONE)
    server = DemoServer(place, "--python-proxy", "--idle-after", str(IDLE_S), "--dir", str(place / "demo"))
    try:
        yield await server.start(within_s=120)
    finally:
        await server.stop()


@pytest.mark.needs("root")
async def test_the_demo_works_with_it_says_what_is_missing_and_stops_what_idles(demo: DemoServer) -> None:
    said = f"{CHOSEN} {LACKS}"
    assert said in demo.log_text()
    assert proxies(demo) == ["daas_hub.demo.python_proxy"]
    names = [p["name"] for p in demo.ready["people"] if not (p["admin"] or p["locked"] or p["over_quota"])]
    (idle, idle_api), (busy, busy_api) = [await served(demo, name) for name in names[:2]]
    assert said in (await Visitor(demo.url).call("GET", "/hub/login"))[1]
    assert said in (await idle.call("GET", "/hub/home"))[1]
    # Kernels answer through the proxy's websockets.
    await busy_api.run(await busy_api.new_kernel(), "import time; time.sleep(150)", finish=False)
    await idle_api.run(await idle_api.new_kernel(), "6 * 7")

    async def stopped() -> bool:
        return await server(idle, names[0]) is None

    await until(stopped, within_s=IDLE_S + 60, what="idle stop", every_s=0.5)
    assert "idle for" in (await idle.call("GET", "/hub/home"))[1]
    still = await server(busy, names[1])
    assert still is not None
    assert still["ready"]
    now = datetime.now(UTC)
    for stamped in (datetime.fromisoformat(still["last_activity"]), await proxied_at(demo, names[1])):
        assert stamped <= now
    assert await demo.end() == 0


async def served(demo: DemoServer, name: str) -> tuple[Visitor, ServerApi]:
    """Signed in, with a server of profile Basic that is asked through the proxy."""
    visitor = Visitor(demo.url)
    await visitor.sign_in(demo.person(name=name))
    status, answer = await visitor.api("POST", f"users/{name}/server", {"profile": "basic"})
    assert status in (201, 202), answer

    async def ready() -> bool:
        found = await server(visitor, name)
        return bool(found and found["ready"])

    await until(ready, within_s=60, what=f"server of {name}", every_s=0.2)
    status, token = await visitor.api("POST", f"users/{name}/tokens", {"expires_in": 600})
    assert status == 201, token
    return visitor, ServerApi(f"{demo.url}/user/{name}/", token["token"])


async def server(visitor: Visitor, name: str) -> Any:
    _, model = await visitor.api("GET", f"users/{name}")
    return model["servers"].get("")


def proxies(demo: DemoServer) -> list[str]:
    """The modules that this demo's proxies run as."""
    commands = [line.decode().split("\0") for line in demo.command_lines()]
    return [argv[argv.index("-m") + 1] for argv in commands if "--error-target" in argv]


async def proxied_at(demo: DemoServer, name: str) -> datetime:
    """When the proxy last passed something on to this person's server, as the hub would read it."""
    state = demo.dir / "state"
    [api_url] = re.findall(r"ConfigurableHTTPProxy.api_url = '(.+)'", (state / "jupyterhub_config.py").read_text())
    headers = {"Authorization": f"token {(state / 'proxy_token').read_text()}"}
    _, routes = await asyncio.to_thread(http_call, "GET", f"{api_url}/api/routes", None, headers)
    [stamp] = [route["last_activity"] for path, route in routes.items() if path.strip("/") == f"user/{name}"]
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC)
