"""The Kubernetes API, as JSON over ``kubernetes_asyncio``'s connection: one place where its errors become ours.

Objects are plain JSON as the API has them, not the library's models: building models of 5,000 pods costs seconds of
the hub's loop, and JSON shows what is stored. Every call has a timeout. ``KubeWatch`` (``kube_watch.py``) stands on it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from daas_hub.core.errors import BackendUnavailable, ConfigError
from daas_hub.core.models import Json

from .kube_session import ApiConnection

JSON = "application/json"
MERGE, PATCH = "application/merge-patch+json", "application/json-patch+json"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""To be accepted where of a list only the objects' metadata are wanted."""
PAGE = 500
CALL_WITHIN_S = 10.0
"""Of one call. An API server that needs longer is treated as away; whoever called tries again."""


class KubeRefused(Exception):
    """The API server has answered, and it said no: ``code`` as in HTTP, ``why`` in its own words."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class KubeMissing(KubeRefused):
    """404: there is no such object."""


class KubeConflict(KubeRefused):
    """409: an object of that name exists, or it was changed meanwhile."""


class KubeGone(KubeRefused):
    """410: the version asked for is no longer kept; list anew."""


_CLASSES = {404: KubeMissing, 409: KubeConflict, 410: KubeGone}
_AWAY = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which the same call may succeed later: nothing is known about the object."""


class Kube:
    """One connection pool to one API server. Built lazily: opening reads files and needs a running loop."""

    def __init__(self, *, kubeconfig: str = "", context: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._api: ApiConnection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def _client(self) -> ApiConnection:
        async with self._opening:
            if self._closed:
                # A task that outlives its owner would open connections that nobody closes.
                raise unavailable(ConnectionError("this connection pool is closed"))
            if self._api is None:
                configuration = Configuration()
                try:
                    if self._kubeconfig:
                        await load_kube_config(
                            config_file=self._kubeconfig,
                            context=self._context or None,
                            client_configuration=configuration,
                        )
                    else:
                        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                except (ConfigException, OSError) as error:
                    raise ConfigError(
                        f"The cluster cannot be found: {error}. Outside of a cluster set KubeBackend.kubeconfig."
                    ) from error
                self._api = await ApiConnection.to(configuration)
            return self._api

    async def open(self) -> None:
        """Read what says where the cluster is; asks nobody. Raises ConfigError."""
        await self._client()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | Sequence[Json] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        within_s: float = CALL_WITHIN_S,
    ) -> Json:
        """One request and its JSON. Raises KubeRefused (with its kinds) or BackendUnavailable."""
        try:
            async with (
                asyncio.timeout(within_s),
                self._open(method, path, query, body, content_type, accept=accept) as answer,
            ):
                return _judged(answer.status, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(error) from error

    async def pages(self, path: str, labels: str = "", *, limit: int = PAGE, accept: str = JSON) -> AsyncIterator[Json]:
        """All objects of a kind, by pages, so that no answer is too large for the time that one call has."""
        query: dict[str, str | int] = {"limit": limit, **({"labelSelector": labels} if labels else {})}
        while True:
            answer, _ = await self.page(path, query, accept=accept, within_s=CALL_WITHIN_S)
            for item in answer.get("items") or []:
                yield item
            follow = (answer.get("metadata") or {}).get("continue")
            if not follow:
                return
            query["continue"] = follow

    async def page(
        self, path: str, query: Mapping[str, str | int], *, accept: str, within_s: float
    ) -> tuple[Json, int]:
        """One page of a list and how many bytes it had. Raises as ``call`` does."""
        raw = await self.raw(path, query, accept=accept, within_s=within_s)
        return _judged(200, raw), len(raw)

    async def raw(
        self, path: str, query: Mapping[str, str | int], *, accept: str, within_s: float = CALL_WITHIN_S
    ) -> bytes:
        """An answer as it is. Raises as ``call`` does."""
        try:
            async with asyncio.timeout(within_s), self._open("GET", path, query, None, accept=accept) as answer:
                raw: bytes = await answer.read()
                if answer.status != 200:
                    _judged(answer.status, raw)
                return raw
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(error) from error

    async def text(self, path: str, *, query: Mapping[str, str | int] | None = None, limit: int = 2**20) -> str:
        """What the API answers as text (a pod's log), at most the last ``limit`` bytes of it."""
        try:
            async with (
                asyncio.timeout(CALL_WITHIN_S),
                self._open("GET", path, query, None) as answer,
            ):
                if answer.status != 200:
                    _judged(answer.status, await answer.read())
                kept = b""
                async for chunk in answer.content.iter_chunked(2**16):
                    kept = (kept + chunk)[-limit:]
                return kept.decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(error) from error

    async def stream(
        self,
        path: str,
        query: Mapping[str, str | int],
        *,
        silent_s: float,
        opened: Callable[[], None],
        accept: str = JSON,
    ) -> AsyncIterator[Json]:
        """The lines of a watch, as JSON; ends when the server ends it, raises where ``silent_s`` pass without one.

        ``opened`` is called when the server has said yes, which may be long before the first line.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_WITHIN_S, sock_read=silent_s)
        try:
            async with self._open("GET", path, query, None, timeout=timeout, accept=accept) as answer:
                if answer.status != 200:
                    _judged(answer.status, await answer.read())
                opened()
                async for line in answer.content:
                    if line.strip():
                        yield _event(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None,
        body: Json | Sequence[Json] | None,
        content_type: str = JSON,
        timeout: aiohttp.ClientTimeout | None = None,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        api = await self._client()
        answer = await api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=timeout,
        )
        try:
            yield answer
        finally:
            answer.close()

    async def close(self) -> None:
        """Close the connections, for good: whoever asks later gets BackendUnavailable."""
        async with self._opening:
            self._closed = True
            if self._api is not None:
                await self._api.close()
                self._api = None


def unavailable(error: Exception) -> BackendUnavailable:
    """What a failed connection means: nothing is known."""
    return BackendUnavailable(
        "The cluster cannot be asked just now. Try again in a moment.",
        log_message=f"The API server cannot be asked: {type(error).__name__}: {error}",
        reason="cluster_unavailable",
        retry_after_s=10,
    )


def _judged(status: int, raw: bytes) -> Json:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if 200 <= status < 300:
        return answer
    why = str(answer.get("message") or raw[:500].decode(errors="replace") or status)
    if status in _AWAY:
        raise BackendUnavailable(
            "The cluster cannot be asked just now. Try again in a moment.",
            log_message=f"The API server answers {status}: {why}",
            reason="cluster_unavailable",
            retry_after_s=10,
        )
    raise _CLASSES.get(status, KubeRefused)(status, why)


def _event(line: bytes) -> Json:
    """One line of a watch; its ERROR is raised as the answer that it stands for."""
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError("a line of a watch is not an object")
    if event.get("type") == "ERROR":
        status: Any = event.get("object") or {}
        _judged(int(status.get("code") or 500), json.dumps(status).encode())
    return event


# ---------------------------------------------------------------- paths


def path(kind: str, namespace: str = "", name: str = "", *, group: str = "v1", sub: str = "") -> str:
    """The API's path of a kind (``pods``), of one object, or of its subresource (``log``)."""
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    parts = [root, *(["namespaces", namespace] if namespace else []), kind]
    return "/".join([*parts, *([name] if name else []), *([sub] if sub else [])])
