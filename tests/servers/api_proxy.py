"""An HTTP proxy in front of a real API server that can be silent, slow or say no, for chosen requests; it counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.servers.kubernetes.keys import Keys


@dataclass(frozen=True)
class Asked:
    """One request, as rules see it."""

    method: str
    path: str
    query: str
    accept: str = ""

    @property
    def table(self) -> bool:
        """Whether it wants a table, if there is one."""
        return "as=Table" in self.accept

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return "watch=true" in self.query

    def lists(self, kind: str) -> bool:
        """Whether it lists all objects of a kind."""
        return self.method == "GET" and self.path.endswith(f"/{kind}") and not self.watch


@dataclass(frozen=True)
class Fault:
    """What happens to a request. Without anything: it is passed on."""

    status: int = 0
    """The answer instead of the API server's; 0: the real one."""
    slow_s: float = 0.0
    """So long the real answer is kept back; the API server has done what was asked by then."""
    silent: bool = False
    """Nothing is passed on, in neither direction, and no connection is closed; open watches go silent, too."""
    ends: bool = False
    """A watch ends as if its time were over, also one that is open."""
    half: bool = False
    """Of the next words of a watch one half is passed on, then the connection breaks."""
    breaks: bool = False
    """The connection of a watch breaks, also one that is open."""
    plain: bool = False
    """What the client accepts is not passed on: it gets whole objects."""
    rewrite: Callable[[bytes], bytes] | None = None
    """What becomes of an answer's body, of a watch line by line."""


Rule = Callable[[Asked], Fault | None]
REASONS = {429: "TooManyRequests", 500: "InternalError", 403: "Forbidden"}
DROPPED = {"content-length", "transfer-encoding", "connection", "content-encoding", "date", "host"}


class ApiProxy:
    """Listens on 127.0.0.1; clients use ``kubeconfig``, which has the administrator's token."""

    def __init__(self, keys: Keys, folder: Path) -> None:
        self.keys = keys
        self.kubeconfig = folder / "api-proxy.kubeconfig"
        self.asked: list[Asked] = []
        """Every request, those that had a fault included."""
        self._rule: Rule = lambda _: None
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._there: aiohttp.ClientSession | None = None

    async def start(self) -> ApiProxy:
        """Listen."""
        context = ssl.create_default_context(cafile=str(self.keys.ca))
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._there = aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        config = json.loads(self.keys.kubeconfig("admin").read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(config))
        return self

    async def stop(self) -> None:
        """Close everything."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._there is not None:
            await self._there.close()

    def set(self, rule: Rule | None = None) -> None:
        """From now on requests have this fault; None: none has one. Watches that are open feel it, too."""
        self._rule = rule or (lambda _: None)
        self._changed.set()
        self._changed = asyncio.Event()

    def count(self, chosen: Callable[[Asked], bool]) -> int:
        """How many requests there were of a kind."""
        return sum(map(chosen, self.asked))

    async def _passes(self, asked: Asked) -> Fault:
        """The fault of a request, once it is not silence."""
        while (fault := self._rule(asked) or Fault()).silent:
            await self._changed.wait()
        return fault

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.query_string, request.headers.get("Accept", ""))
        self.asked.append(asked)
        fault = await self._passes(asked)
        if fault.status:
            said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fault.status,
                    "reason": REASONS.get(fault.status, ""), "message": f"the proxy says {fault.status}"}  # fmt: skip
            return web.json_response(said, status=fault.status, headers={"Retry-After": "1"})
        assert self._there is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in DROPPED}
        if fault.plain:
            headers["Accept"] = "application/json"
        if fault.rewrite is not None:
            headers["Accept-Encoding"] = "identity"
        body = await request.read()
        url = f"{self.keys.url}{request.rel_url}"
        try:
            async with self._there.request(
                request.method, url, headers=headers, data=body or None, timeout=aiohttp.ClientTimeout(total=None)
            ) as answer:
                if fault.slow_s:
                    await asyncio.sleep(fault.slow_s)
                return await self._pass_on(asked, request, answer)
        except aiohttp.ClientConnectionError:
            # As an API server that is gone: no answer, the connection ends.
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=502)

    async def _pass_on(self, asked: Asked, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in DROPPED}
        if encoding := answer.headers.get("Content-Encoding"):
            kept["Content-Encoding"] = encoding
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        # A client that hung up is no fault of the proxy.
        with contextlib.suppress(ConnectionError):
            async for piece in self._pieces(asked, answer):
                fault = await self._passes(asked)
                if fault.half or fault.breaks:
                    await response.write(piece[: len(piece) // 2 if fault.half else 0])
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if fault.ends:
                    break
                await response.write(fault.rewrite(piece) if fault.rewrite is not None else piece)
            await response.write_eof()
        return response

    async def _pieces(self, asked: Asked, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """What comes; of a watch its lines, and nothing whenever the rule changes so that it must be looked at."""
        if not asked.watch:
            yield await answer.read()
            return
        line = asyncio.ensure_future(answer.content.readline())
        try:
            while True:
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait({line, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not line.done():
                    fault = self._rule(asked) or Fault()
                    if fault.ends or fault.breaks:
                        yield b""
                    continue
                if not line.result():
                    return
                yield line.result()
                line = asyncio.ensure_future(answer.content.readline())
        finally:
            line.cancel()
