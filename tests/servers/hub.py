"""A real JupyterHub with its proxy, in processes of their own, on free ports of the loopback interface."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port
from tests.waiting import until

ADMIN_SCOPES = [
    "admin:users",
    "admin:servers",
    "admin:groups",
    "access:servers",
    "access:services",
    "list:users",
    "list:services",
    "read:hub",
    "tokens",
    "proxy",
]


class HubServer:
    """One hub. ``config`` is the operator's part of jupyterhub_config.py; ports, database and token are added."""

    def __init__(self, root: Path, config: str, *, proxy: list[str] | None = None, env: dict[str, str] | None = None):
        self.root = root
        self.config = config
        self.proxy = proxy
        self.env = env or {}
        self.port = free_port()
        self.hub_port = free_port()
        self.hub_host = "127.0.0.1"
        """Where the hub itself listens: servers that are not on this machine need an address that they reach."""
        self.api_port = free_port()
        self.token = secrets.token_hex(16)
        self.crypt_key = secrets.token_hex(32)
        self.log = root / "hub.log"
        self.internal_ssl = False
        """Whether hub, proxy and servers speak TLS with each other: the tests then reach the hub by its proxy."""
        self.python = sys.executable
        """Whose JupyterHub it is: a peer of the bench has an environment of its own."""
        self.wrapper: list[str] = []
        """Words before the hub's own command, of a program that becomes it (env, setsid)."""
        self.process: subprocess.Popen[bytes] | None = None
        self._earlier_gap_s = 0.0

    @property
    def url(self) -> str:
        """The public URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub_url(self) -> str:
        """The hub's own URL, past the proxy; with internal_ssl the proxy's."""
        return self.url if self.internal_ssl else self._bind_url

    @property
    def _bind_url(self) -> str:
        return f"http://{self.hub_host}:{self.hub_port}"

    def write_config(self) -> Path:
        """jupyterhub_config.py as it will be read."""
        path = self.root / "jupyterhub_config.py"
        proxy = f"c.ConfigurableHTTPProxy.command = {self.proxy!r}\n" if self.proxy else NO_PROXY
        path.write_text(
            f"""c = get_config()
c.JupyterHub.bind_url = "{self.url}"
c.JupyterHub.hub_bind_url = "{self._bind_url}"
c.JupyterHub.internal_ssl = {self.internal_ssl}
c.JupyterHub.internal_certs_location = "{self.root}/internal-ssl"
c.ConfigurableHTTPProxy.api_url = "http{"s" if self.internal_ssl else ""}://127.0.0.1:{self.api_port}"
# A hub in namespaces of its own begins in /, where others would end its proxy by this file.
c.ConfigurableHTTPProxy.pid_file = "{self.root}/jupyterhub-proxy.pid"
c.JupyterHub.db_url = "sqlite:///{self.root}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "{self.root}/cookie_secret"
c.DaasHub.ledger_url = "sqlite:///{self.root}/ledger.sqlite"
c.LocalBackend.runtime_dir = "{self.root}/run"
c.JupyterHub.services = [{{"name": "tests", "api_token": "{self.token}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": {ADMIN_SCOPES!r}}}]
{proxy}
{textwrap.dedent(self.config)}
"""
        )
        path.chmod(0o600)
        return path

    async def start(self, *, within_s: float = 60) -> HubServer:
        """Start the hub and wait until its health page answers through the proxy (or directly, without one)."""
        config = self.write_config()
        self._earlier_gap_s = max(self._earlier_gap_s, self._gap_s() or 0.0)
        env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB_")}
        # Configurations of tests import from the tests themselves.
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        env |= {"JUPYTERHUB_CRYPT_KEY": self.crypt_key, "CONFIGPROXY_AUTH_TOKEN": self.token, **self.env}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, self.python, "-m", "jupyterhub", "-f", str(config)],
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        base = self.url if self.proxy else self.hub_url
        await until(lambda: self._up(base), within_s=within_s, what=f"hub at {base}; its log: {self.log}", every_s=0.1)
        # Until it answers it is not there yet; what its imports take is nobody's waiting.
        (self.root / "loop_gap").unlink(missing_ok=True)
        return self

    async def _up(self, base: str) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the hub ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
        try:
            status, _ = await self.http("GET", f"{base}/hub/health")
        except OSError:
            return False
        return status == 200

    def log_text(self) -> str:
        """All that the hub and its services have logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def roles_of_services(self) -> set[tuple[str, str]]:
        """Which service has which scope by a role, in the hub's own database."""
        with closing(sqlite3.connect(self.root / "jupyterhub.sqlite")) as db:
            rows = db.execute(
                "SELECT services.name, roles.scopes FROM services JOIN service_role_map ON service_id = services.id "
                "JOIN roles ON role_id = roles.id"
            )
            return {(name, scope) for name, scopes in rows for scope in json.loads(scopes)}

    def signal(self, number: int) -> None:
        """Send a signal to the hub's process only."""
        assert self.process is not None
        self.process.send_signal(number)

    async def wait_gone(self, *, within_s: float = 30) -> None:
        """Wait until the hub's process has ended."""
        await until(lambda: self.process is None or self.process.poll() is not None, within_s=within_s, what="hub gone")

    async def stop(self) -> None:
        """End the hub by SIGTERM, by SIGKILL where that does not help."""
        if self.process is None or self.process.poll() is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            await self.wait_gone()
        except AssertionError:
            self.signal(signal.SIGKILL)
            await self.wait_gone()
            raise

    def forget_gaps(self) -> None:
        """Measure the loop anew from here on; needs LOOP_MONITOR in the configuration."""
        (self.root / "loop_gap").unlink(missing_ok=True)
        self._earlier_gap_s = 0.0

    def worst_gap_s(self) -> float:
        """The longest time that the hub's event loop did not run since ``forget_gaps``, in seconds.

        Earlier boots count, starts of the hub do not. Raises AssertionError where nothing was measured.
        """
        measured = self._gap_s()
        assert measured is not None, "the hub's loop is not measured: LOOP_MONITOR is not in its configuration"
        return max(measured, self._earlier_gap_s)

    def _gap_s(self) -> float | None:
        """What this boot has measured; a hub that was just told to forget writes anew at its loop's next turn."""
        for _ in range(200):
            try:
                return float((self.root / "loop_gap").read_text())
            except FileNotFoundError:
                if "_loop_monitor" not in self.config or self.process is None or self.process.poll() is not None:
                    return None
                threading.Event().wait(0.02)
        return None

    # ------------------------------------------------------------ REST

    async def http(
        self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request; the status and the body (JSON where it is JSON)."""
        return await asyncio.to_thread(http_call, method, url, body, headers or {})

    async def api(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """One call of the hub's REST interface, by default with the tests' own administrator token."""
        headers = {"Authorization": f"token {token or self.token}"}
        return await self.http(method, f"{self.hub_url}/hub/api/{path}", body, headers)

    async def server(self, user: str, name: str = "") -> dict[str, Any] | None:
        """The hub's model of one server, or None."""
        status, model = await self.api("GET", f"users/{user}?include_stopped_servers")
        assert status == 200, model
        found: dict[str, Any] | None = model["servers"].get(name)
        return found

    async def start_server(self, user: str, name: str = "", options: Any = None) -> tuple[int, Any]:
        """Start by REST and wait while it is pending; the answer of the first call.

        A hub that is not done with the end of the server before says so with 400; that is waited for, as people do.
        """
        path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
        answers: list[tuple[int, Any]] = []

        async def taken() -> bool:
            answers.append(await self.api("POST", path, options))
            status, said = answers[-1]
            return not (status == 400 and "is pending stop" in str(said))

        await until(taken, within_s=30, what=f"the hub is done with the end of the server of {user}", every_s=0.1)
        answer = answers[-1]
        if answer[0] in (201, 202):
            await until(lambda: self._ready(user, name), within_s=90, what=f"server of {user}", every_s=0.1)
        return answer

    async def stop_server(self, path: str) -> None:
        """Stop by REST (``users/…/server`` or ``users/…/servers/…``) and wait: a busy hub says 202 and goes on."""
        status, said = await self.api("DELETE", path)
        assert status in (202, 204), said
        user, _, name = path.removeprefix("users/").partition("/")
        _, _, name = name.partition("/")

        async def gone() -> bool:
            found = await self.server(user, name)
            return found is None or bool(found.get("stopped"))

        await until(gone, within_s=60, what=f"{path} is gone", every_s=0.1)

    async def _ready(self, user: str, name: str) -> bool:
        model = await self.server(user, name)
        return bool(model and model["ready"])


def http_call(method: str, url: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    """One request, blocking; the status and the body (JSON where it is JSON)."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            status, raw = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, raw = error.code, error.read()
    try:
        return status, json.loads(raw)
    except ValueError:
        return status, raw.decode(errors="replace")


NO_PROXY = """
from jupyterhub.proxy import Proxy
class _NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): self._r = {**getattr(self, "_r", {}), routespec: (target, data)}
    async def delete_route(self, routespec): getattr(self, "_r", {}).pop(routespec, None)
    async def get_all_routes(self):
        return {k: {"routespec": k, "target": t, "data": d} for k, (t, d) in getattr(self, "_r", {}).items()}
c.JupyterHub.proxy_class = _NoProxy
"""
"""A proxy that remembers routes and forwards nothing: for tests that speak only REST."""

LOOP_MONITOR = """
import asyncio as _asyncio, os as _os, pathlib as _pathlib, time as _time
def _not_given():
    found = {}
    for thread in _os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/schedstat") as told:
                found[thread] = int(told.read().split()[1]) / 1e9
        except OSError:
            continue
    return found
async def _measure(gap=_pathlib.Path("loop_gap"), tick=0.05):
    worst = -1.0
    while True:
        asked, before = _time.monotonic(), _not_given()
        await _asyncio.sleep(tick)
        late = _time.monotonic() - asked - tick
        if not gap.exists():
            worst = -1.0
        if late > worst:
            # A thread that could run and was given no core blocks nobody: the machine was busy. Another one may have
            # held Python's lock meanwhile, so the loop's own and the worst of the others count.
            waited = sorted(s - before.get(thread, s) for thread, s in _not_given().items())
            late = max(0.0, late - sum(waited[-2:]))
        if late > worst:
            worst = late
            new = gap.with_suffix(".new")
            new.write_text(f"{worst:.3f}")
            new.replace(gap)
_loop_monitor = _asyncio.get_running_loop().create_task(_measure())
"""
"""For a hub's configuration: keeps the longest gap of its event loop in seconds in the file ``loop_gap``."""
