"""What a namespace holds of one kind, kept true by one watch; it never gives up and always tells its age.

List in pages, then watch from the list's version; a watch that ends or fails is resumed from the last version seen;
410 (the version was compacted away) lists anew and tells the difference. See "Efficient detection of changes" in
Kubernetes' API concepts. Many hubs and their services may watch one API server: pauses have jitter, so that they do
not all come back in the same moment.

With ``rows`` it asks for tables and keeps a row of each object. Every page and every event is read as what it is, so
a server that answers with whole objects is as good, only dearer; one that refuses tables, or whose tables lack what
is read of them, is asked for whole objects from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from daas_hub.core.backoff import delays
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Json

from .kube import JSON, Kube, KubeGone, KubeRefused
from .kube_table import ACCEPT, REFUSED, Columns, UnfitTable, is_table, version_of

FIRST_PAGE, LARGEST_PAGE = 25, 2000
PAGE_BYTES = 192 * 1024
"""Of a page, about: it is decoded in one go, some 5 ms, and the others of this loop have their turn between two."""
WATCH_S = 240
"""How long one watch lasts, in seconds; the next one goes on from the last version."""
SILENT_S = 90.0
"""A watch without a line for so long is broken: bookmarks come about every minute (Kubernetes, KEP-956)."""
LIST_WITHIN_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0
"""Between two tries, before jitter. 20: whatever happened in an outage is known half a minute after it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Rows(Generic[T]):
    """How to read a table."""

    columns: Sequence[str]
    """What is read of a row; the first is the object's name."""
    make: Callable[[Sequence[str], str, T | None, bool], T]
    """Of the cells, the object's version (empty in a list), what was known before of this very object, and whether
    it was made just now."""
    same: Callable[[T, T], bool]
    """Whether nothing can have changed between two lists that somebody waits for."""


class KubeWatch(Generic[T]):
    """All objects of one path and label selector, by name. One task keeps them; any number of readers wait on it."""

    def __init__(
        self,
        kube: Kube,
        path: str,
        *,
        labels: str = "",
        fields: str = "",
        log: Any,
        slim: Callable[[Json], T],
        rows: Rows[T] | None = None,
        silent_s: float = SILENT_S,
    ) -> None:
        self._kube, self._path, self._log, self._slim, self._silent_s = kube, path, log, slim, silent_s
        self._rows, self._tables = rows, rows is not None
        self._query: dict[str, str | int] = {}
        if labels:
            self._query["labelSelector"] = labels
        if fields:
            self._query["fieldSelector"] = fields
        self._objects: dict[str, T] = {}
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
    def objects(self) -> Mapping[str, T]:
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
            except UnfitTable as error:
                if self._gave_up_tables(str(error)):
                    continue
                self._failed(str(error))
            except KubeRefused as error:
                if error.code in REFUSED and self._gave_up_tables(str(error)):
                    continue
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

    def _gave_up_tables(self, why: str) -> bool:
        """Whether whole objects can still be asked for. No version was taken from what could not be read."""
        if not self._tables:
            return False
        self._log.warning("The watch of %s takes whole objects, no tables, from now on: %s", self._path, why)
        self._tables = False
        return True

    @property
    def _accept(self) -> str:
        return ACCEPT if self._tables else JSON

    def _asked(self, **more: str | int) -> dict[str, str | int]:
        return {**self._query, **({"includeObject": "None"} if self._tables else {}), **more}

    async def _list(self) -> None:
        found: dict[str, T] = {}
        query = self._asked(limit=FIRST_PAGE)
        while True:
            page, size = await self._kube.page(self._path, query, accept=self._accept, within_s=LIST_WITHIN_S)
            before = len(found)
            found.update(self._read_page(page))
            more = page["metadata"].get("continue")
            if not more:
                break
            fit = PAGE_BYTES * max(1, len(found) - before) // max(1, size)
            query |= {"continue": more, "limit": max(1, min(fit, LARGEST_PAGE))}
            await asyncio.sleep(0)
        self._version = version_of(page) if is_table(page) else page["metadata"]["resourceVersion"]
        self._take(found)
        self.lists += 1
        self._alive()
        self._synced.set()

    def _read_page(self, page: Json) -> Iterator[tuple[str, T]]:
        """Names and what is kept of them, of a page of either kind."""
        if not is_table(page):
            for item in page.get("items") or []:
                yield item["metadata"]["name"], self._slim(item)
            return
        rows = self._wanted_rows()
        columns = Columns(page.get("columnDefinitions"), rows.columns)
        for row in page.get("rows") or ():
            cells = columns.pick(row)
            yield cells[0], rows.make(cells, "", None, False)

    def _wanted_rows(self) -> Rows[T]:
        if self._rows is None:
            raise UnfitTable("nobody asked for tables")
        return self._rows

    def _take(self, found: dict[str, T]) -> None:
        """From now on this is what there is; who waits for what changed is told."""
        before, self._objects = self._objects, found
        same = self._rows.same if self._rows is not None else lambda one, other: one == other
        changed = {
            name
            for name in self._waiting
            # Who waits for one that is not there may have missed its end: it was before the first list.
            if name not in found or name not in before or not same(found[name], before[name])
        }
        for name in changed:
            self._tell(name)

    async def _follow(self) -> None:
        query = self._asked(
            watch="true", allowWatchBookmarks="true", resourceVersion=self._version, timeoutSeconds=WATCH_S
        )
        stream = self._kube.stream(self._path, query, silent_s=self._silent_s, opened=self._alive, accept=self._accept)
        columns: Columns | None = None
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            async for event in stream:
                kind, item = event["type"], event["object"]
                if is_table(item):
                    # Only the first table of a watch says what its columns are.
                    if item.get("columnDefinitions"):
                        columns = Columns(item["columnDefinitions"], self._wanted_rows().columns)
                    name = self._take_row(kind, item, columns)
                else:
                    name = self._take_item(kind, item)
                self._alive()
                self._pauses = pauses()
                if name:
                    self._tell(name)

    def _take_row(self, kind: str, table: Json, columns: Columns | None) -> str:
        """The name that it is about; empty for a bookmark."""
        version, name = version_of(table), ""
        if kind != "BOOKMARK":
            listed = table.get("rows") or []
            if len(listed) != 1 or columns is None:
                raise UnfitTable(f"an event has {len(listed)} rows, and columns {columns}")
            cells = columns.pick(listed[0])
            name = cells[0]
            before = self._objects.pop(name, None)
            if kind != "DELETED":
                made = kind == "ADDED"
                self._objects[name] = self._wanted_rows().make(cells, version, None if made else before, made)
        # After the rest: what could not be read is asked for once more.
        self._version = version
        return name

    def _take_item(self, kind: str, item: Json) -> str:
        version, name = item["metadata"]["resourceVersion"], ""
        if kind != "BOOKMARK":
            name = item["metadata"]["name"]
            if kind == "DELETED":
                self._objects.pop(name, None)
            else:
                self._objects[name] = self._slim(item)
        self._version = version
        return name

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
