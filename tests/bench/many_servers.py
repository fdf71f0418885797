"""A real hub with thousands of servers that cost nothing: no-op spawner, no-op proxy, one listener for all."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jupyterhub import orm
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from daas_hub.core.models import Charge, LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import Ledger, Reservation
from tests.servers.hub import HubServer
from tests.servers.ports import free_port
from tests.waiting import until

CONFIG = """
from jupyterhub.spawner import Spawner
class Noop(Spawner):
    async def start(self):
        return "127.0.0.1", {port}
    async def stop(self, now=False):
        pass
    async def poll(self):
        return None
    def load_state(self, state):
        self.port = {port}
    async def get_url(self):
        return "http://127.0.0.1:{port}" + self.server.base_url
c.JupyterHub.spawner_class = Noop
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.log_level = "WARN"
c.JupyterHub.authenticate_prometheus = False
c.JupyterHub.init_spawners_timeout = 600
# Else its end would stop every server, one request after another.
c.JupyterHub.cleanup_servers = False
# What the hub does by itself, now and then, belongs to neither side.
c.Spawner.poll_interval = 100000
c.JupyterHub.last_activity_interval = 0
c.JupyterHub.services.append({{"name": "peer", "api_token": {token!r}}})
c.JupyterHub.load_roles.append({{"name": "peer", "services": ["peer"],
    "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"]}})
"""


class Answer(RequestHandler):
    """What a server answers when the hub asks whether it is there."""

    def get(self) -> None:
        self.set_header("X-JupyterHub-Version", "6.1.1")
        self.write("{}")


class ManyServers:
    """``registered`` users of whom ``running`` have a server, in the hub's database and in a ledger alike."""

    def __init__(self, root: Path, *, registered: int, running: int) -> None:
        self.root, self.registered, self.running = root, registered, running
        self.token = secrets.token_hex(16)
        self.port = free_port()
        self.hub = HubServer(root, CONFIG.format(port=self.port, token=self.token))
        self.ledger_url = f"sqlite:///{root}/ledger.sqlite"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = HTTPServer(Application([(r".*", Answer)]))
        self._loop.call_soon(server.listen, self.port, "127.0.0.1")
        self._loop.run_forever()

    async def start(self) -> ManyServers:
        """Fill both databases, start the hub, wait until it holds every server for running."""
        self._thread.start()
        await asyncio.to_thread(self._fill_hub)
        await asyncio.to_thread(self._fill_ledger)
        await self.hub.start(within_s=300)
        await until(self._all_ready, within_s=300, every_s=1, what="all servers ready")
        return self

    async def stop(self) -> None:
        """End hub and listener."""
        await self.hub.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _fill_hub(self) -> None:
        session = orm.new_session_factory(f"sqlite:///{self.root}/jupyterhub.sqlite")()
        now = datetime.now(UTC).replace(tzinfo=None)
        for number in range(self.registered):
            user = orm.User(name=f"user{number}", last_activity=now)
            session.add(user)
            if number < self.running:
                server = orm.Server(
                    proto="http", ip="127.0.0.1", port=self.port, base_url=f"/user/user{number}/", cookie_name="c"
                )
                session.add(
                    orm.Spawner(user=user, name="", server=server, state={"x": 1}, started=now, last_activity=now)
                )
        session.commit()
        session.bind.dispose()

    def _fill_ledger(self) -> None:
        ledger = Ledger.open(self.ledger_url)
        now = datetime.now(UTC)
        for number in range(self.running):
            at = now + timedelta(microseconds=number)
            reservation = Reservation(
                launch_id=new_id(),
                hub_boot_id="bench",
                account_id=f"account{number}",
                user_name=f"user{number}",
                server_name="",
                groups=("everybody", f"group{number % 20}"),
                project=None,
                profile="basic",
                charge=Charge(cores=1, memory_bytes=2**30),
                backend="local",
                request={"version": 1},
                api_token_encrypted=b"x" * 200,
                source="bench",
            )
            ledger.reserve(reservation, now=at)
            for state in (LaunchState.SUBMITTED, LaunchState.RUNNING):
                ledger.move(reservation.launch_id, state, now=at)
        ledger.close()

    # ------------------------------------------------------------ what is measured

    async def ready(self) -> int:
        """How many servers the hub holds for running."""
        found, offset = 0, 0
        while True:
            status, users = await self.hub.api("GET", f"users?state=ready&limit=200&offset={offset}")
            assert status == 200, users
            found += sum(len(user["servers"]) for user in users)
            if len(users) < 200:
                return found
            offset += 200

    async def _all_ready(self) -> bool:
        return await self.ready() == self.running

    def cpu_s(self) -> float:
        """CPU seconds of the hub's process so far, to the nanosecond (Linux: schedstat of each thread)."""
        assert self.hub.process is not None
        tasks = Path(f"/proc/{self.hub.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    async def requests(self) -> int:
        """How many requests the hub has answered, this one not included (it is counted when it is over)."""
        _, text = await self.hub.http("GET", f"{self.hub.hub_url}/hub/metrics")
        counted = re.findall(r"^jupyterhub_request_duration_seconds_count\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)
        return int(sum(map(float, counted)))

    async def measured(self, work: Any) -> dict[str, float]:
        """Await ``work()``: what it cost the hub, and what it returns about itself."""
        before, cpu = await self.requests(), self.cpu_s()
        began = time.perf_counter()
        own = await work()
        wall_s = time.perf_counter() - began
        used = self.cpu_s() - cpu
        # The first look at the counter is itself counted by now.
        return {"hub_cpu_s": used, "requests": await self.requests() - before - 1, "wall_s": wall_s, **own}
