"""What a namespace holds of one kind, kept true by one watch; it never gives up and always tells its age.

List in pages, then watch from the list's version; a watch that ends or fails is resumed from the last version seen;
410 (the version was compacted away) lists anew and tells the difference. See "Efficient detection of changes" in
Kubernetes' API concepts. Many hubs and their services may watch one API server: pauses have jitter, so that they do
not all come back in the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from daas_hub.core.backoff import delays
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Json

from .kube import Kube, KubeGone, KubeRefused

PAGE = 500
WATCH_S = 240
"""How long one watch lasts, in seconds; the next one goes on from the last version."""
SILENT_S = 90.0
"""A watch without a line for so long is broken: bookmarks come about every minute (Kubernetes, KEP-956)."""
LIST_WITHIN_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0
"""Between two tries, before jitter. 20: whatever happened in an outage is known half a minute after it."""

Slim = Callable[[Json], Json]


class KubeWatch:
    """All objects of one path and label selector, by name. One task keeps them; any number of readers wait on it."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        *,
        labels: str = "",
        fields: str = "",
        log: Any,
        slim: Slim,
        silent_s: float = SILENT_S,
    ) -> None:
        self._kube, self._path, self._log, self._slim, self._silent_s = kube, path, log, slim, silent_s
        self._query: dict[str, str | int] = {}
        if labels:
            self._query["labelSelector"] = labels
        if fields:
            self._query["fieldSelector"] = fields
        self._objects: dict[str, Json] = {}
        self._version = ""
        self._seen_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._synced = asyncio.Event()
        self._pauses: Iterator[float] = pauses()
        self.failures = 0
        """How often it had to begin again since it was last true."""
        self.lists = 0
        """How often everything was listed: once at the start, and once for each version that was lost."""

    # ------------------------------------------------------------ reading

    def start(self) -> None:
        """Begin to watch, where it has not begun yet; needs a running loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._forever())

    async def synced(self, within_s: float) -> bool:
        """Wait until the first list is there; False where it is not after ``within_s`` seconds."""
        self.start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._synced.wait(), within_s)
        return self._synced.is_set()

    @property
    def age_s(self) -> float | None:
        """Seconds since the API server last said anything; None before the first list."""
        return None if self._seen_at is None else time.monotonic() - self._seen_at

    def fresh(self, within_s: float) -> bool:
        """Whether what is known may be believed: a watch is open, and something came by it that lately."""
        return self.failures == 0 and self._seen_at is not None and time.monotonic() - self._seen_at <= within_s

    @property
    def objects(self) -> Mapping[str, Json]:
        """By name; true as of ``age_s`` ago."""
        return self._objects

    @contextlib.contextmanager
    def changes(self, name: str) -> Any:
        """An event that is set whenever the object of that name changes, or everything was listed anew."""
        changed = asyncio.Event()
        self._waiting.setdefault(name, set()).add(changed)
        try:
            yield changed
        finally:
            waiting = self._waiting[name]
            waiting.discard(changed)
            if not waiting:
                del self._waiting[name]

    def wake(self, name: str) -> None:
        """Set the events of ``changes`` for that name: something else became known of it."""
        self._tell(name)

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    # ------------------------------------------------------------ keeping

    async def _forever(self) -> None:
        while True:
            began_at = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._follow()
                if time.monotonic() - began_at > LONGEST_PAUSE_S:
                    continue
                # Ended at once by whoever stands between: the next one may, too.
            except KubeGone:
                self._log.info("The watch of %s is too old and lists anew", self._path)
                self._version = ""
            except BackendUnavailable as error:
                self._failed(error.log_message)
            except KubeRefused as error:
                self._failed(str(error))
                if error.code not in (401, 403):
                    # An answer that makes no sense may make sense after an upgrade. Rights are given back.
                    self._version = ""
            except Exception as error:
                # Whatever it is: a watch that has ended unseen would be believed for ever.
                self._log.exception("The watch of %s met what it does not know", self._path)
                self._failed(str(error))
                self._version = ""
            await asyncio.sleep(next(self._pauses))

    def _failed(self, why: str) -> None:
        self.failures += 1
        log = self._log.warning if self.failures in (1, 10) or self.failures % 100 == 0 else self._log.debug
        log("The watch of %s begins again (%s times now): %s", self._path, self.failures, why)

    async def _list(self) -> None:
        found: dict[str, Json] = {}
        query = {**self._query, "limit": PAGE}
        while True:
            page = await self._kube.call("GET", self._path, query=query, within_s=LIST_WITHIN_S)
            for item in page.get("items") or []:
                found[item["metadata"]["name"]] = self._slim(item)
            more = page["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
            # A page is decoded in one go; the others of this loop have their turn between two.
            await asyncio.sleep(0)
        changed = {name for name in self._objects.keys() | found.keys() if self._objects.get(name) != found.get(name)}
        self._objects = found
        self._version = page["metadata"]["resourceVersion"]
        self.lists += 1
        self._alive()
        self._synced.set()
        # Who waits for one that is not there may have missed its end: it was before the first list.
        for name in changed | (self._waiting.keys() - found.keys()):
            self._tell(name)

    async def _follow(self) -> None:
        query = {
            **self._query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": WATCH_S,
        }
        stream = self._kube.stream(self._path, query, silent_s=self._silent_s, opened=self._alive)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for event in stream:
                item = event["object"]
                self._version = item["metadata"]["resourceVersion"]
                self._alive()
                self._pauses = pauses()
                if event["type"] == "BOOKMARK":
                    continue
                name = item["metadata"]["name"]
                if event["type"] == "DELETED":
                    self._objects.pop(name, None)
                else:
                    self._objects[name] = self._slim(item)
                self._tell(name)

    def _alive(self) -> None:
        if self.failures and self.age_s is not None:
            self._log.info("The watch of %s goes on after %.0f s", self._path, self.age_s)
        self._seen_at = time.monotonic()
        self.failures = 0

    def _tell(self, name: str) -> None:
        for event in self._waiting.get(name, ()):
            event.set()


def pauses() -> Iterator[float]:
    """Growing seconds between two tries, each between half of it and the whole."""
    return (delay_s * random.uniform(0.5, 1.0) for delay_s in delays(FIRST_PAUSE_S, LONGEST_PAUSE_S))  # noqa: S311
