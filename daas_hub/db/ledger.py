"""The ledger: the state of record of every launch, and the one place where a start is admitted.

Every method is one transaction and safe to call from several threads and processes. Calls block: a hub and its
services run them in ``db.pool.LedgerPool``. Any method may raise LedgerBusy ("try again", nothing was written).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from daas_hub.core.errors import Exceeded
from daas_hub.core.grants import Booked, Grant
from daas_hub.core.models import Charge, Event, Handle, Json, LaunchState, Observation, Resource, Target
from daas_hub.core.quota import Relief
from daas_hub.core.share import Use
from daas_hub.core.turns import Asks

from . import admission, books, grants, launches, migrate, turns, usage, wishes
from . import claim as claims
from .accounts import AccountRow, Accounts, linked
from .allocations import Allocations
from .audit import Audit
from .engine import Database, make_private_file
from .invites import Invites
from .lease import Leases
from .limits import Limits
from .links import Links
from .local_groups import LocalGroups
from .notices import Notices
from .projects import Projects
from .recount import Difference, recount
from .restore import Restore
from .rows import Kept, LaunchRow, Place, Reservation, load_one, load_these
from .volumes import Volumes

__all__ = ["Kept", "LaunchRow", "Ledger", "Place", "Reservation"]


class Ledger:
    """An open ledger. ``accounts``, ``allocations``, ``limits``, ``links``, ``audit``, ``leases``, ``local_groups``,
    ``notices``, ``projects``, ``volumes`` and ``restore`` share its connections."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.accounts = Accounts(db)
        self.allocations = Allocations(db)
        self.limits = Limits(db)
        self.links = Links(db)
        self.invites = Invites(db)
        self.audit = Audit(db)
        self.leases = Leases(db)
        self.local_groups = LocalGroups(db)
        self.notices = Notices(db)
        self.projects = Projects(db)
        self.volumes = Volumes(db)
        self.restore = Restore(db)

    @classmethod
    def open(cls, url: str, *, busy_timeout_s: float = 5.0, create: bool = True) -> Ledger:
        """Open ``sqlite:///file`` or ``postgresql+psycopg://…``.

        ``create`` makes or upgrades the tables; without it a missing or older schema is refused. A writer that
        waits longer than ``busy_timeout_s`` seconds for another one gets LedgerBusy. Raises ConfigError: a URL that
        cannot work, SQLite on a network file system, a schema that this version cannot use.
        """
        db = Database(url, busy_timeout_s=busy_timeout_s)
        try:
            if create:
                if db.is_sqlite:
                    make_private_file(url)
                migrate.upgrade(db)
            else:
                migrate.check(db)
        except BaseException:
            db.close()
            raise
        return cls(db)

    def close(self) -> None:
        """Close all connections."""
        self._db.close()

    def claim(self, hub_id: str) -> str:
        """Say that this hub uses the ledger; the ledger's own id, made once and random.

        Raises ConfigError where the ledger belongs to a hub of another ``hub_id``.
        """
        return self._db.write(claims.claim, hub_id)

    # ------------------------------------------------------------ admission

    def reserve(self, r: Reservation, *, now: datetime) -> LaunchRow:
        """Admit a start and write it down: state RESERVED, counted in every scope, durable.

        The same ``launch_id`` again returns the launch as it is now. Raises QuotaExceeded (without ``fits``),
        LaunchConflict where another launch of this account and server is active, NotAllowed where a limited
        resource is unknown in the charge.
        """
        return self._db.write(admission.reserve, r, now)

    def reassign(
        self, launch_id: str, *, backend: str, charge: Charge, now: datetime, placement: Json | None = None
    ) -> LaunchRow:
        """Move a reservation to the next candidate; ``placement``: what is stored of why, instead of what was.

        Raises QuotaExceeded (the old one stays), IllegalMove, NotFound.
        """
        return self._db.write(admission.reassign, launch_id, backend, charge, now, placement)

    def would_fit(
        self,
        account_id: str,
        groups: Sequence[str],
        project: str | None,
        charges: Mapping[str, Charge],
        now: datetime,
    ) -> dict[str, bool]:
        """Which of several charges would be admitted now. Reads only."""
        return self._db.read(admission.would_fit, account_id, tuple(groups), project, charges, now)

    def relief(
        self,
        account_id: str,
        groups: Sequence[str],
        project: str | None,
        charges: Mapping[str, Charge],
        now: datetime,
    ) -> dict[str, Relief]:
        """Which of her servers would have to be stopped for each of several charges. Reads only."""
        return self._db.read(admission.relief, account_id, tuple(groups), project, charges, now)

    def limited_resources(self) -> set[Resource]:
        """Resources on which any limit exists: a profile that does not say how much of them it takes cannot start."""
        return self.limits.limited_resources()

    # ------------------------------------------------------------ queries

    def get(self, launch_id: str) -> LaunchRow | None:
        """The launch of this id."""
        return self._db.read(load_one, launch_id)

    def these(self, launch_ids: Collection[str]) -> Mapping[str, LaunchRow]:
        """The launches of these ids, by id, asked for at once; what is not there is missing."""
        return self._db.read(load_these, launch_ids)

    def active(self, account_id: str, server_name: str) -> LaunchRow | None:
        """The launch of this server that has not ended; there is at most one."""
        return self._db.read(launches.one_of_server, account_id, server_name, ended=False)

    def server_of(self, issuer: str, subject: str, server_name: str) -> tuple[AccountRow | None, LaunchRow | None]:
        """The account that an identity is linked to, and its launch of this server that has not ended."""
        return self._db.read(_server_of, issuer, subject, server_name)

    def begun_as(self, user_name: str) -> list[LaunchRow]:
        """Launches not ended yet that a user of this name began, whatever that user is called by now."""
        return self._db.read(launches.begun_as, user_name)

    def last_ended(self, account_id: str, server_name: str) -> LaunchRow | None:
        """The newest ended launch of this server."""
        return self._db.read(launches.one_of_server, account_id, server_name, ended=True)

    def launches(
        self,
        *,
        states: Collection[LaunchState] | None = None,
        account_id: str | None = None,
        backend: str | None = None,
        limit: int = 500,
        before: Place | None = None,
    ) -> list[LaunchRow]:
        """Launches, newest first; ``before``: the ``place`` of the last row of the page before."""
        return self._db.read(launches.listing, states, account_id, backend, limit, before)

    def holding(self, backend: str, states: Collection[LaunchState]) -> dict[str, tuple[LaunchState, Asks]]:
        """Launches at a backend in these states, and what each holds there."""
        return self._db.read(turns.holding, backend, states)

    def used(self, people: Mapping[str, Sequence[str]], *, now: datetime) -> dict[str, dict[Resource, Use]]:
        """Account → what it has used in 7 days and may use at once; ``people``: account → groups that count."""
        return self._db.read(turns.used, people, now)

    # ------------------------------------------------------------ moves

    def move(self, launch_id: str, state: LaunchState, *, now: datetime, reason: str = "") -> LaunchRow:
        """Move a launch; to where it is already is no move. RUNNING begins to count its use.

        Back to RESERVED forgets the handle: what it named was stopped. Raises IllegalMove, NotFound.
        """
        return self._db.write(launches.move, launch_id, state, now, reason)

    def adopt(self, launch_id: str, hub_boot_id: str, *, now: datetime) -> LaunchRow:
        """A launch of an earlier boot of the hub belongs to this boot now. Raises IllegalMove where it has ended."""
        return self._db.write(launches.adopt, launch_id, hub_boot_id, now)

    def adopt_these(self, launch_ids: Collection[str], hub_boot_id: str, *, now: datetime) -> set[str]:
        """The same of several, at once: the ids of those that belong to this boot now. Others ended, or are none."""
        return self._db.write(launches.adopt_these, launch_ids, hub_boot_id, now)

    def set_target(self, launch_id: str, target: Target, *, now: datetime, reason: str, by: str) -> LaunchRow:
        """Say that a launch should stop; idempotent, the first reason stays.

        ``reason`` is for the person ("idle for 2 min (rule Basic)"); ``by`` is a user's name, ``culler``, ``limit``
        or ``admin:<name>`` (audited).
        """
        return self._db.write(launches.set_target, launch_id, target, now, reason, by)

    def settle(
        self,
        launch_id: str,
        *,
        code: int | None,
        reason: str,
        evidence: str,
        now: datetime,
        ended_at: datetime | None = None,
        booked: Booked | None = None,
        time_over: bool = False,
    ) -> bool:
        """End a launch, from any state: usage closed, reservation freed. True if this call ended it.

        ``evidence`` says what was seen ("exit status 0 seen by pidfd") and must not be empty. ``booked``: what its
        place says that it used, which counts. ``time_over``: its place ended it for that, and its owner is told.
        """
        return self._db.write(launches.settle, launch_id, code, reason, evidence, now, ended_at, booked, time_over)

    def declare_lost(self, launch_id: str, *, by: str, why: str, now: datetime) -> None:
        """End a launch without evidence, on an administrator's word; audited.

        ``why`` is required, at most 500 characters, and stays as the reason of its end.
        Raises InvalidOptions, NotFound.
        """
        self._db.write(launches.declare_lost, launch_id, by, why, now)

    # ------------------------------------------------------------ what is known

    def save_handle(self, launch_id: str, handle: Handle, *, now: datetime) -> None:
        """Remember durably where the server is. Raises NotFound."""
        self._db.write(launches.save_handle, launch_id, handle, now)

    def replace_handle(self, launch_id: str, old: Handle, new: Handle, *, now: datetime) -> bool:
        """``new`` in the place of ``old``; False where it is another one by now, or the launch should stop.

        Raises NotFound.
        """
        return self._db.write(launches.replace_handle, launch_id, old, new, now)

    def record_observation(self, launch_id: str, obs: Observation, *, now: datetime) -> None:
        """Remember one look at the server; moves nothing."""
        self.record_observations([(launch_id, obs, now)])

    def record_observations(self, looks: Sequence[tuple[str, Observation, datetime]]) -> None:
        """The same of several launches, at once; each look with its time."""
        self._db.write(launches.record_observations, looks)

    def heartbeat(self, launch_ids: Iterable[str], *, now: datetime) -> None:
        """The hub still takes care of these launches."""
        self._db.write(launches.heartbeat, tuple(launch_ids), now)

    def wish_mail(self, launch_id: str, wished: bool) -> bool:
        """Remember whether its owner wants a mail when it is ready; False where it is ready, has ended, or is none."""
        return self._db.write(wishes.wish_mail, launch_id, wished)

    def take_mail(self, launch_id: str) -> bool:
        """Whether a mail is to be sent now: True once for a launch."""
        return self._db.write(wishes.take_mail, launch_id)

    def keep_log(self, launch_id: str, log: str) -> None:
        """Remember the end of a server's log (bounded and without secrets: ``core.logs.readable``)."""
        self._db.write(launches.keep_log, launch_id, log)

    def forget_logs(self, *, ended_before: datetime, at_most: int = 500) -> int:
        """Forget the kept logs of launches that ended before then; how many, at most so many: ask again."""
        return self._db.write(launches.forget_logs, ended_before, at_most)

    def save_software(self, launch_id: str, software: Json, *, image_digest: str | None) -> None:
        """Remember what a server is made of, as its backend reports it."""
        self._db.write(launches.save_software, launch_id, software, image_digest)

    def kept(self, launch_id: str) -> Kept:
        """Log, software and image digest of a launch: what its row leaves out."""
        return self._db.read(launches.kept, launch_id)

    def add_events(self, launch_id: str, events: Sequence[Event]) -> None:
        """Append steps of a start, in this order, in one transaction."""
        self._db.write(launches.add_events, launch_id, events)

    def events(self, launch_id: str, after: int = 0) -> list[tuple[int, Event]]:
        """Steps with a number above ``after``, oldest first."""
        return self._db.read(launches.events, launch_id, after)

    # ------------------------------------------------------------ usage

    def grant(self, launch_id: str, told: Grant, *, source: str, now: datetime) -> tuple[Exceeded, ...]:
        """What its place has given a launch: it counts for that, since its present run began. Idempotent.

        Its reservation becomes that, too, which is audited. Returns the limits that it passes by having more than it
        was admitted for, and tells its owner: it goes on, and nothing new starts. Raises NotFound.
        """
        return self._db.write(grants.grant, launch_id, told, source, now)

    def book(self, launch_id: str, booked: Booked | None, *, now: datetime) -> int:
        """Correct the use of an ended launch by what its place says; how many rows that took. Idempotent.

        Nothing where it is not due any more. ``booked`` None: its place keeps no books, and is not asked again.
        """
        return self._db.write(books.late, launch_id, booked, now)

    def books_due(self, *, limit: int = 50) -> list[tuple[LaunchRow, datetime]]:
        """Ended launches that are still to be accounted for, and since when; of more than that others each time."""
        return self._db.read(books.all_due, limit)

    def forget_books(self, launch_id: str) -> None:
        """Ask for it no more: what was counted stays."""
        self._db.write(books.forget, launch_id)

    def counted(self, launch_id: str) -> dict[str, int]:
        """What a launch was counted for so far: server_s, core_ms, memory_byte_s, gpu_s."""
        return self._db.read(books.of_launch, launch_id)

    def suspend(self, launch_id: str, *, now: datetime) -> None:
        """Stop counting a launch's use; it keeps its reservation."""
        self._db.write(launches.suspend, launch_id, now)

    def resume(self, launch_id: str, *, now: datetime) -> None:
        """Count a running launch's use again."""
        self._db.write(launches.resume, launch_id, now)

    def count_open(self, *, now: datetime) -> int:
        """Bring the hourly sums of running launches up to the last full hour; call it now and then.

        Returns how many launches it counted, at most 50: where it is 50, call again.
        """
        return self._db.write(usage.count_open, now)

    def recount(self, *, fix: bool = False) -> list[Difference]:
        """Compare every sum with the rows; empty where they agree to the last unit. ``fix`` writes what rows say."""
        return recount(self._db, fix=fix)


def _server_of(
    c: Connection, issuer: str, subject: str, server_name: str
) -> tuple[AccountRow | None, LaunchRow | None]:
    account = linked(c, issuer, subject)
    return account, launches.one_of_server(c, account.id, server_name, ended=False) if account is not None else None
