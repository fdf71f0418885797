"""A hub as the bench drives it: starts and stops by REST, ready moments by the hub's own clock, CPU of its process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.servers.hub import HubServer
from tests.waiting import until

RECORDING = """
import time as _time
from jupyterhub.proxy import Proxy as _Proxy
class _Recording(_Proxy):
    should_start = False
    routes = {}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = (target, data)
        with open("ready.log", "a") as log:
            log.write(f"{_time.time():.6f} {routespec}\\n")
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return {k: {"routespec": k, "target": t, "data": d} for k, (t, d) in self.routes.items()}
c.JupyterHub.proxy_class = _Recording
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0, "slow_stop_timeout": 0}
c.JupyterHub.cleanup_servers = False
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.named_server_limit_per_user = 0
c.JupyterHub.allow_named_servers = True
c.JupyterHub.init_spawners_timeout = 600
c.Spawner.consecutive_failure_limit = 0
"""
"""A proxy that forwards nothing and writes down when the hub gives a server its route: then it is ready."""

TICKS = os.sysconf("SC_CLK_TCK")
Server = tuple[str, str]
"""User and the server's name, which is empty for her default one."""


def route(server: Server) -> str:
    """The hub's route of a server."""
    user, name = server
    return f"/user/{user}/{name}/" if name else f"/user/{user}/"


class DrivenHub:
    """Drives one hub with RECORDING in its configuration."""

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One call of the hub's REST interface."""
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=120)
            self._http = aiohttp.ClientSession(trust_env=False, timeout=timeout)
        headers = {"Authorization": f"token {self.hub.token}"}
        url = f"{self.hub.hub_url}/hub/api/{path}"
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if text.startswith(("{", "[")) else text

    def cpu_s(self) -> float:
        """CPU seconds of the hub's process since it began, its threads included, its services not."""
        assert self.hub.process is not None
        fields = Path(f"/proc/{self.hub.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    # ------------------------------------------------------------ ready moments

    def forget(self) -> None:
        """Forget earlier ready moments."""
        (self.hub.root / "ready.log").unlink(missing_ok=True)

    def ready_at(self) -> dict[str, float]:
        """By route, when the hub said ready last; seconds since the epoch."""
        log = self.hub.root / "ready.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return {where: float(at) for at, _, where in (line.partition(" ") for line in lines)}

    async def _all_ready(self, servers: Sequence[Server], within_s: float) -> dict[str, float]:
        routes = {route(server) for server in servers}
        missing: set[str] = set()

        def there() -> bool:
            missing.clear()
            missing.update(routes - self.ready_at().keys())
            return not missing

        try:
            await until(there, within_s=within_s, every_s=0.05)
        except AssertionError as error:
            end = self.hub.log_text()[-3000:]
            raise AssertionError(f"{len(missing)} are not ready: {sorted(missing)[:5]}; the hub: {end}") from error
        return self.ready_at()

    # ------------------------------------------------------------ start and stop

    async def _ask(self, server: Server, body: Any) -> None:
        user, name = server
        status, said = await self.api("POST", f"users/{user}/servers/{name}" if name else f"users/{user}/server", body)
        assert status in (201, 202), (server, status, said)

    async def start_paced(
        self, servers: Iterable[Server], *, every_s: float, body: Any = None, within_s: float = 120
    ) -> dict[str, float]:
        """Ask for one every ``every_s`` seconds, whatever became of those before; when each was ready, by route."""
        asked, begun = [], []
        for server in servers:
            asked.append(server)
            begun.append(asyncio.create_task(self._ask(server, body)))
            await asyncio.sleep(every_s)
        await asyncio.gather(*begun)
        return await self._all_ready(asked, within_s)

    async def start_all(
        self, servers: Sequence[Server], *, at_once: int, body: Any = None, within_s: float = 300
    ) -> tuple[float, float]:
        """Start them, so many at once; seconds from the first request to the last ready server, and the hub's CPU."""
        waiting = {route(server): asyncio.get_running_loop().create_future() for server in servers}
        told = asyncio.create_task(self._tell(waiting))
        turn = asyncio.Semaphore(at_once)

        async def one(server: Server) -> None:
            async with turn:
                await self._ask(server, body)
                await asyncio.wait_for(waiting[route(server)], within_s)

        began, cpu = time.time(), self.cpu_s()
        try:
            await asyncio.gather(*(one(server) for server in servers))
        except TimeoutError as error:
            missing = sorted(where for where, told_of in waiting.items() if not told_of.done())
            raise AssertionError(
                f"{len(missing)} are not ready: {missing[:5]}; {self._said_of(missing[:2])}"
            ) from error
        finally:
            told.cancel()
        used = self.cpu_s() - cpu
        return max(self.ready_at()[where] for where in waiting) - began, used

    def _said_of(self, routes: Sequence[str]) -> str:
        """The hub's lines about these servers, and its last ones."""
        lines = self.hub.log_text().splitlines()
        words = [where.strip("/").removeprefix("user/") for where in routes]
        about = [line for line in lines if any(word in line or word.replace("/", ":") in line for word in words)]
        return "\n".join(["the hub said:", *about[:60], "…", *lines[-20:]])

    async def _tell(self, waiting: dict[str, asyncio.Future[None]]) -> None:
        """Resolve what has become ready."""
        while True:
            for where in self.ready_at():
                if where in waiting and not waiting[where].done():
                    waiting[where].set_result(None)
            await asyncio.sleep(0.02)

    async def stop_all(self, servers: Sequence[Server], *, within_s: float = 300) -> None:
        """Stop them and wait until the hub holds none of them."""
        turn = asyncio.Semaphore(20)

        async def one(server: Server) -> None:
            user, name = server
            path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
            async with turn:
                status, said = await self.api("DELETE", path)
                assert status in (202, 204), (server, status, said)

        await asyncio.gather(*(one(server) for server in servers))

        async def none() -> bool:
            return not await self.running("active")

        await until(none, within_s=within_s, every_s=0.3, what="all servers are stopped")

    async def running(self, state: str = "ready") -> set[Server]:
        """The servers that the hub holds for running."""
        found: set[Server] = set()
        offset = 0
        while True:
            status, users = await self.api("GET", f"users?state={state}&limit=200&offset={offset}")
            assert status == 200, users
            found |= {(user["name"], name) for user in users for name in user["servers"]}
            if len(users) < 200:
                return found
            offset += 200
