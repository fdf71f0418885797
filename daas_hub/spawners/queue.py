"""The hub's own queue: launches that have to wait because their place has none (design.md §2, step 5: QUEUED).

The ledger says who waits (state QUEUED), who holds what, and what everybody has used; here, in the one process that
starts servers, is only who was let go a moment ago. The decisions are in ``core/turns.py`` and ``core/share.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from daas_hub.core.capacity import Capacity
from daas_hub.core.errors import LedgerBusy, StartFailed
from daas_hub.core.models import Event, LaunchState, Resource, Target
from daas_hub.core.places import Place
from daas_hub.core.share import Use, Waiting, order
from daas_hub.core.turns import Asks, Bounds, Holding, promised, take, too_long, waits, waits_since
from daas_hub.core.units import format_duration
from daas_hub.db.ledger import LaunchRow
from daas_hub.db.turns import HOLDING

if TYPE_CHECKING:
    from .runtime import DaasHub

Note = Callable[[Event], Awaitable[None]]
Figures = dict[str, dict[Resource, Use]]
LOOK_EVERY_S = 2.0
"""What ends is told at once; what the reconciler or an administrator ends is seen after this."""
FIGURES_FOR_S = 30.0
"""What people used in 7 days changes slowly, and is a sum of many rows."""
ALL = 1_000_000


class Turns:
    """One line for each backend."""

    def __init__(self, site: DaasHub, now: Callable[[], datetime]) -> None:
        self._site, self._now = site, now
        self._lines: dict[str, Line] = {}

    def line(self, backend: str) -> Line:
        """Those who wait for this backend."""
        if backend not in self._lines:
            self._lines[backend] = Line(self._site, backend, self._now)
        return self._lines[backend]

    def changed(self, backend: str) -> None:
        """A launch there has ended, or is to end: somebody may go."""
        if backend in self._lines:
            self._lines[backend].look()

    @asynccontextmanager
    async def turn(self, row: LaunchRow, note: Note) -> AsyncIterator[None]:
        """Entered once it is this launch's turn at its backend; kept until its start is over.

        Raises StartFailed where no turn comes in time, or the launch was ended meanwhile.
        """
        if not self._site.backend(row.backend).bounds.any:
            yield
            return
        line = self.line(row.backend)
        try:
            await line.wait(row, note)
            yield
        finally:
            line.leave(row.id)


class _Waiter:
    def __init__(self, asks: Asks, note: Note) -> None:
        self.asks, self.note = asks, note
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told = ""

    def go(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)

    def give_up(self, why: str) -> None:
        if not self.turn.done():
            self.turn.set_exception(StartFailed(why, permanent=True, reason="cancelled"))

    async def tell(self, words: str, number: int, now: datetime) -> None:
        """Once for each change. In the ledger are the first number and that she is next: each end moves everybody."""
        if words != self.told:
            self.told = words
            await self.note(Event(now, words, replaces="in line" if number > 1 else "next in line"))


class Line:
    """Those who wait for one backend, and those of them who were let go and are not in the ledger's count yet."""

    def __init__(self, site: DaasHub, backend: str, now: Callable[[], datetime]) -> None:
        self._site, self._backend, self._now = site, backend, now
        self._waiting: dict[str, _Waiter] = {}
        self._gone: dict[str, Asks] = {}
        self._changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._figures: Figures = {}
        self._figures_at = 0.0

    @property
    def _bounds(self) -> Bounds:
        return self._site.backend(self._backend).bounds

    def look(self) -> None:
        """Somebody may go now."""
        self._changed.set()

    def leave(self, launch_id: str) -> None:
        """Its start is over, or it waits no more."""
        self._gone.pop(launch_id, None)
        self._waiting.pop(launch_id, None)
        self.look()

    async def wait(self, row: LaunchRow, note: Note) -> None:
        """Return when it is its turn: it is QUEUED until then, or was let through at once."""
        asks = Asks.of(row.request, row.charge)
        async with self._one_at_a_time:
            if not self._waiting and take([(row.id, asks)], await self._held(), self._bounds)[0]:
                self._gone[row.id] = asks
                return
            await self._site.run(self._site.ledger.move, row.id, LaunchState.QUEUED, now=self._now())
            waiter = self._waiting[row.id] = _Waiter(asks, note)
        self.look()
        if self._task is None or self._task.done():
            self._task = self._site.keep(self._run())
        within_s = self._site.backend(self._backend).queue_wait_s
        try:
            async with asyncio.timeout(within_s):
                await waiter.turn
        except TimeoutError as error:
            message = too_long(Place(self._backend).words, format_duration(within_s))
            raise StartFailed(message, permanent=False, reason="queue_timeout") from error

    async def _run(self) -> None:
        """Let go whoever may, while anybody waits."""
        silent = False
        while self._waiting:
            self._changed.clear()
            try:
                async with self._one_at_a_time:
                    await self._let_go()
                silent = False
            except LedgerBusy as error:
                if not silent:
                    self._site.log.warning("The queue for %s stands still: %s", self._backend, error.log_message)
                silent = True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_EVERY_S)

    async def _let_go(self) -> None:
        """One look at the ledger, and what follows from it."""
        ledger, mine = self._site.ledger, dict(self._waiting)
        rows = await self._site.run(ledger.launches, states=[LaunchState.QUEUED], backend=self._backend, limit=ALL)
        found = {row.id: row for row in rows if row.target is Target.RUNNING}
        for launch_id, waiter in mine.items():
            if launch_id not in found:
                self._waiting.pop(launch_id, None)
                waiter.give_up("This start was ended while it waited for its turn.")
        held = await self._held()
        ordered = await self._in_order([found[launch_id] for launch_id in self._waiting if launch_id in found])
        # From here to the last turn that is given nothing is awaited: whoever waits now gets it, or nobody.
        line = [launch_id for launch_id in ordered if launch_id in self._waiting]
        go, why = take([(each, self._waiting[each].asks) for each in line], held, self._bounds)
        for launch_id in go:
            waiter = self._waiting.pop(launch_id)
            self._gone[launch_id] = waiter.asks
            waiter.go()
        place = Place(self._backend).words
        for number, launch_id in enumerate(line[len(go) :], 1):
            # Whoever gave up meanwhile hears nothing more.
            if (left := self._waiting.get(launch_id)) is not None:
                await left.tell(waits(place, number, why), number, self._now())

    async def _in_order(self, rows: Sequence[LaunchRow]) -> list[str]:
        now, loop = self._now(), asyncio.get_running_loop()
        people = {row.account_id: row.groups for row in rows}
        if loop.time() - self._figures_at > FIGURES_FOR_S or not people.keys() <= self._figures.keys():
            self._figures = await self._site.run(self._site.ledger.used, people, now=now)
            self._figures_at = loop.time()
        return [one.launch_id for one in order(map(_waiting, rows), self._figures)]

    async def _held(self) -> Holding:
        """What launches hold there, with those that were let go and have not said so in the ledger yet."""
        states = HOLDING if self._bounds.has_room else (LaunchState.SUBMITTED,)
        there = await self._site.run(self._site.ledger.holding, self._backend, states)
        held = Holding()
        for state, asks in there.values():
            starting = held.starting + (state is LaunchState.SUBMITTED)
            held = Holding(starting, held.cores + asks.cores, held.memory_bytes + asks.memory_bytes)
        for launch_id, asks in self._gone.items():
            if launch_id not in there:
                held = held.plus(asks)
        return held

    async def told(self, look: Sequence[Capacity]) -> Sequence[Capacity]:
        """What the place says of itself, with the room that the hub keeps there."""
        if not self._bounds.has_room:
            return look
        return promised(look, self._bounds, await self._held())


def _waiting(row: LaunchRow) -> Waiting:
    charge = row.charge
    asks = {
        Resource.SERVERS: float(charge.servers),
        Resource.CORES: charge.cores or 0.0,
        Resource.MEMORY_BYTES: float(charge.memory_bytes or 0),
        Resource.GPUS: float(charge.gpus),
    }
    return Waiting(row.id, row.account_id, waits_since(row.request, row.created_at), asks)
