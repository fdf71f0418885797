"""The culler: stops servers that nobody uses, by the site's rules (docs/reference/culler.md).

Deadlines come from the ledger and wait in a heap, so a pass in which nothing is due asks nobody anything. A server
that is due is asked itself, in the same breath in which it is then stopped. The culler writes the reason into the
ledger and stops that launch at its backend, so a user who was renamed meanwhile is not taken for another one.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from traitlets import Float, Int, List

from daas_hub.clients.jupyter_server import ServerClient
from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.lifecycle import Report, Rule, announce, first_look, judge, read_rules, rule_for, was_stopped
from daas_hub.core.models import LaunchState, Target
from daas_hub.db.ledger import LaunchRow

from .base import Service, jittered, main, utcnow

ALL = 1_000_000
"""More launches than one hub has: the ledger's list is asked for in one piece."""


@dataclass
class Watched:
    """One running launch and when it may be due. ``row`` is as old as the last look at the ledger."""

    row: LaunchRow
    rule: Rule
    due_at: datetime
    busy: bool = False
    """It is being looked at, or stopped, just now."""


class Culler(Service):
    """Stops idle and over-aged servers."""

    word = "culler"

    rules: Any = List(
        help="Who is stopped when: a list of dicts with name, profiles, groups, users, idle_after_s, max_age_s, "
        "count_open_tabs and apps; the first one that matches a server holds, and a server that none matches is left "
        "alone. Times in seconds; None is never, 0 is refused. Empty by default, so that nothing is stopped that the "
        "site did not decide on. See docs/reference/culler.md.",
    ).tag(config=True)

    read_ledger_every_s = Float(
        30.0,
        min=1.0,
        help="How often the running launches are read from the ledger, in seconds. A deadline is met by a timer, not "
        "by this period; only a server younger than this is not known yet. 30 costs the hub nothing.",
    ).tag(config=True)

    concurrency = Int(
        20,
        min=1,
        help="How many servers are asked and stopped at once; at least 1. The hub's core needs about 25 ms per stop, "
        "and 20 at once leave it time for people.",
    ).tag(config=True)

    ask_within_s = Float(
        5.0,
        min=0.1,
        help="How long a server may take to report its use, in seconds. One that takes longer counts as unknown and "
        "is not stopped for being idle.",
    ).tag(config=True)

    walltime_notice_s = Float(
        900.0,
        min=0.0,
        help="How long before a server's time at its place is over (a SLURM job's walltime) its owner is told so on "
        "the home page, in seconds. 0: not before it is over. 900 is time enough to save.",
    ).tag(config=True)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rules = read_rules(self.rules)
        self._servers = ServerClient(
            timeout_s=self.ask_within_s, max_clients=3 * self.concurrency, tls=self.environment.tls
        )
        self._at_once = asyncio.Semaphore(self.concurrency)
        self._watched: dict[str, Watched] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._read_again = 0.0
        self._announced: dict[str, str | None] | None = None
        """Launch → what its owner was told last of its end; None: by a culler before this one."""

    # ------------------------------------------------------------ a pass

    async def turn(self) -> float:
        """Read the ledger when it is time for that, start what is due; seconds until the next thing is."""
        if time.monotonic() >= self._read_again:
            await self.read_ledger()
            self._read_again = time.monotonic() + jittered(self.read_ledger_every_s)
        now = utcnow()
        for watched in self._take_due(now):
            watched.busy = True
            task = asyncio.create_task(self._handle(watched))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        wait_s = self._read_again - time.monotonic()
        if self._heap:
            wait_s = min(wait_s, (self._heap[0][0] - now).total_seconds())
        return max(0.0, wait_s)

    async def finish(self) -> None:
        """Leave what is being looked at; a stop that was begun is finished by the reconciler."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._servers.close()

    async def read_ledger(self) -> None:
        """Know every launch that runs and should run; keep the deadlines of those that were known."""
        rows = await self.run_in_ledger(self.ledger.launches, states={LaunchState.RUNNING}, limit=ALL)
        known = {row.id: row for row in rows if row.target is Target.RUNNING}
        for gone in self._watched.keys() - known.keys():
            del self._watched[gone]
        for row in known.values():
            if row.id in self._watched:
                self._watched[row.id].row = row
            else:
                self._watch(row)
        await self._announce(known.values())

    async def _announce(self, rows: Collection[LaunchRow]) -> None:
        """Tell owners of servers whose time is over soon; take it back where it is not any more."""
        if self._announced is None:
            self._announced = dict.fromkeys(await self.run_in_ledger(self.ledger.notices.launches))
        said: dict[str, str | None] = {}
        for row in rows:
            told = announce(
                row.server_name, row.backend, ends_at=row.ends_at, now=utcnow(), lead_s=self.walltime_notice_s
            )
            if told.text != self._announced.get(row.id, ""):
                if not self.holds_lease:
                    return
                await self.run_in_ledger(
                    self.ledger.notices.announce, row.account_id, row.server_name, row.id, told.text,
                    like=told.like, now=utcnow(),
                )  # fmt: skip
            said[row.id] = told.text
        self._announced = said

    def _watch(self, row: LaunchRow) -> None:
        rule = rule_for(self._rules, profile=row.profile, groups=row.groups, user=row.user_name)
        due_at = first_look(rule, started_at=row.started_at or row.created_at)
        if rule is not None and due_at is not None:
            self._watched[row.id] = Watched(row, rule, due_at)
            heapq.heappush(self._heap, (due_at, row.id))

    def _take_due(self, now: datetime) -> list[Watched]:
        due = []
        while self._heap and self._heap[0][0] <= now:
            due_at, launch_id = heapq.heappop(self._heap)
            watched = self._watched.get(launch_id)
            # Entries of launches that are gone, and deadlines that have moved since, are dropped here.
            if watched is not None and watched.due_at == due_at and not watched.busy:
                due.append(watched)
        return due

    # ------------------------------------------------------------ one server that is due

    async def _handle(self, watched: Watched) -> None:
        """Ask, judge and, where it comes to that, stop; then put it back into the heap."""
        look_at: datetime | None = None
        try:
            async with self._at_once:
                if not self.holds_lease:
                    return
                look_at = await self._look(watched)
        except DaasError as error:
            self.log.error("Launch %s of %s: %s", watched.row.id, watched.row.user_name, error.log_message)
        except Exception:
            self.log.exception("Launch %s of %s", watched.row.id, watched.row.user_name)
        finally:
            watched.busy = False
            self._put_back(watched, look_at)

    def _put_back(self, watched: Watched, look_at: datetime | None) -> None:
        if self._watched.get(watched.row.id) is not watched:
            return
        if look_at is None:
            # Forgotten until the ledger is read again: it then still runs, or it is gone.
            del self._watched[watched.row.id]
            return
        watched.due_at = look_at
        heapq.heappush(self._heap, (look_at, watched.row.id))
        self.wake()

    async def _look(self, watched: Watched) -> datetime | None:
        """One look at a server at the moment in which it would be stopped. When to look again; None: see the ledger."""
        row = await self.run_in_ledger(self.ledger.get, watched.row.id)
        if row is None or row.state is not LaunchState.RUNNING or row.target is not Target.RUNNING:
            return None
        started_at = row.started_at or row.created_at
        report = await self._report(row, watched.rule) if watched.rule.idle_after_s is not None else None
        verdict = judge(watched.rule, started_at=started_at, report=report, now=utcnow())
        if not verdict.stop:
            return verdict.look_at
        if self.holds_lease:
            await self._stop(row, verdict.reason)
        return None

    async def _report(self, row: LaunchRow, rule: Rule) -> Report | None:
        """What the server says; None where it cannot be asked, which is logged."""
        try:
            if row.handle is None or row.api_token_encrypted is None:
                raise BackendUnavailable("its launch has no handle or token.")
            # A site without rules, or where nothing is ever due, needs none of the hub's code here.
            from jupyterhub.crypto import decrypt

            token = (await decrypt(row.api_token_encrypted))["token"]
            async with asyncio.timeout(self.ask_within_s):
                # The backend makes sure that it is the launch's own process which listens there.
                url = await self.backend(row.backend).resume(row.handle)
            return await self._servers.report(url + row.handle["service_prefix"], token, rule.apps)
        except (DaasError, TimeoutError) as error:
            why = error.log_message if isinstance(error, DaasError) else "it does not answer."
        except Exception as error:
            # Keys, tokens, backends: whatever hinders us is no reason to stop somebody's server.
            why = f"{type(error).__name__}: {error}"
        self.log.warning("The server of %s (%s) cannot be asked: %s", row.user_name, row.id, why)
        return None

    async def _stop(self, row: LaunchRow, reason: str) -> None:
        """Write down why, then stop it. From the first line on the reconciler sees to it, too."""
        ledger = self.ledger
        stored = await self.run_in_ledger(
            ledger.set_target, row.id, Target.STOPPED, now=utcnow(), reason=reason, by=self.word
        )
        if stored.target_by != self.word or stored.state is LaunchState.ENDED:
            return  # somebody else was faster, and their reason stays
        text = was_stopped(row.server_name, reason)
        await self.run_in_ledger(ledger.notices.add, row.account_id, row.server_name, text, now=utcnow())
        await self.stop_launch(stored)


if __name__ == "__main__":
    main(Culler)
