"""What every spawner of one hub process shares: the ledger, the backends, the hub's name and this boot's id."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from traitlets import Dict, Float, Int, Type, Unicode, validate
from traitlets.config import SingletonConfigurable

from daas_hub.backends.base import Backend
from daas_hub.core.access import Limits
from daas_hub.core.backoff import delays
from daas_hub.core.errors import ConfigError, IllegalMove, LedgerBusy
from daas_hub.core.models import Observation
from daas_hub.core.naming import new_id, safe_name
from daas_hub.core.version import VERSION
from daas_hub.db.engine import absolute_url
from daas_hub.db.ledger import LaunchRow, Ledger
from daas_hub.db.pool import MAX_WORKERS, LedgerPool

from .catalogue import Catalogue
from .queue import Turns
from .together import Together

P = ParamSpec("P")
T = TypeVar("T")


PROBES = 200
"""Servers that are asked at the same time at a hub's start; few enough that each can answer in time."""


def utcnow() -> datetime:
    """The one clock of the hub's side: an aware datetime in UTC."""
    return datetime.now(UTC)


@cache
def versions() -> dict[str, str]:
    """Name → version of what shapes a server on the hub's side; what is not installed is left out."""
    found = {"daas_hub": VERSION}
    for name in ("jupyterhub", "jupyterhub-kubespawner"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class DaasHub(SingletonConfigurable):
    """One per hub process; opened once when the hub starts (``spawners/startup.py``)."""

    hub_id = Unicode(
        "hub",
        help="This hub's name in the ledger, in handles, comments and labels: lower-case letters, digits and "
        "hyphens, at most 40. Two hubs that share a cluster or a machine need two names. Changing it orphans "
        "what runs: stop all servers first.",
    ).tag(config=True)

    ledger_url = Unicode(
        "sqlite:///daas.sqlite",
        help="Where the ledger is kept: `sqlite:///relative.sqlite`, `sqlite:////absolute.sqlite` (hub and services "
        "on one machine, on a local file system) or `postgresql+psycopg://user:password@host/name`. It is the "
        "state of record and must be backed up; JupyterHub's own database may be lost.",
    ).tag(config=True)

    ledger_busy_timeout_s = Int(
        5,
        min=1,
        help="How long a writer waits for another one, in seconds, before the person is asked to try again. "
        "5 lets a long write pass; more would keep a page waiting.",
    ).tag(config=True)

    retention_days = Int(
        90,
        min=0,
        help="How long the volumes of a user who was deleted are kept, in days, before `daas-hub volumes expire` "
        "counts them as over. Nothing is ever deleted without that command. 0: for ever. 90 spans a term's break.",
    ).tag(config=True)

    identity_good_for_s = Float(
        86400.0,
        min=0.0,
        help="How long the last good answer about a person counts while her directory or identity provider cannot be "
        "asked, in seconds: for so long servers start by what was known then. What runs and who is signed in is never "
        "ended by an outage. 0: no start without an answer. A day outlasts what an operator needs to repair one.",
    ).tag(config=True)

    identity_good_for_admins_s = Float(
        3600.0,
        min=0.0,
        help="The same for administrators, in seconds. An hour, because their rights reach everybody.",
    ).tag(config=True)

    sweep_believes_share = Float(
        0.5,
        min=0.0,
        max=1.0,
        help="Where more than ten people, and more than this share of all who have signed in, seem to have left since "
        "the last sweep, nobody's access is ended until an administrator says that it is right: a directory that was "
        "restored empty answers as clearly as a true one. 1: everything is believed.",
    ).tag(config=True)

    closed_profile_grace_s = Float(
        900.0,
        min=0.0,
        help="A server whose profile is no longer open to the groups of its owner is stopped so many seconds after the "
        "sweep that noticed it, and she is told at once. 0: with the next sweep. 15 minutes let her save her work.",
    ).tag(config=True)

    backends: Any = Dict(
        value_trait=Type(klass=Backend),
        default_value={"local": "daas_hub.backends.local.LocalBackend"},
        help="Places where servers may run: the word used in profiles → the class. Each class's own traits "
        "configure it. The first one is used by profiles that name none.",
    ).tag(config=True)

    @validate("hub_id")
    def _valid_hub_id(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if not value or safe_name(value, limit=40) != value:
            raise ConfigError(
                f"DaasHub.hub_id is {value!r}; allowed are lower-case letters, digits and hyphens, at most 40."
            )
        return value

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.boot_id = new_id()
        """Fresh at every start of the hub: tells launches of this boot from earlier ones."""
        self.checked = False
        """Whether the start-up checks have passed."""
        self.turn = asyncio.Lock()
        """Whose turn it is to be given numbers (``accounts/allocator.py``)."""
        self.tls: dict[str, str] = {}
        """The hub's own key, certificate and authorities, as backends and clients take them (internal_ssl)."""
        self._ledger: Ledger | None = None
        self._pool = LedgerPool()
        self.rows = Together(self._rows, at_once=MAX_WORKERS)
        """A launch's row by its id, or None where the ledger does not know it."""
        self.looked = Together(self._looked, at_once=1)
        """Remember a look: launch, what was seen, when."""
        self.adopt = Together(self._adopt, at_once=1)
        """The launch of this id belongs to this boot of the hub now. Raises IllegalMove where it has ended."""
        self.user_names = Together(self._user_names, at_once=MAX_WORKERS)
        """The name of the user who has this account, or None where there is no such account."""
        self.probing = asyncio.Semaphore(PROBES)
        """Whoever asks a server whether it is there. Thousands at once would be late because of each other."""
        self._built: dict[str, Backend] = {}
        self._kept: set[asyncio.Task[Any]] = set()
        # A task that is kept lives until it is done.
        self._settling: WeakValueDictionary[str, asyncio.Task[None]] = WeakValueDictionary()
        self.catalogue = Catalogue(tuple(self.backends))
        self.turns = Turns(self, utcnow)
        """Who waits in the hub's own queue."""

    @staticmethod
    def now() -> float:
        """Seconds since 1970, by which the age of answers about people is told."""
        return time.time()

    def identity_limits(self) -> Limits:
        """How long answers about people count."""
        return Limits(self.identity_good_for_s, self.identity_good_for_admins_s)

    def require_checks(self) -> None:
        """Raise ConfigError in a hub whose start-up checks never ran: nothing says that limits and accounts hold."""
        if not self.checked:
            raise ConfigError(
                "This hub's settings were never checked, so no server is started. Whoever administers it adds "
                "`from daas_hub import configure` and `configure(c)` to its configuration file and restarts it."
            )

    @property
    def ledger(self) -> Ledger:
        """The open ledger. Blocking: use ``run`` from the event loop."""
        if self._ledger is None:
            self._ledger = Ledger.open(self.ledger_url, busy_timeout_s=float(self.ledger_busy_timeout_s))
        return self._ledger

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a ledger call in the bounded thread pool.

        A cancellation waits until the call is over: what was begun is then visible to whoever cleans up.
        """
        call = asyncio.ensure_future(self._pool.run(fn, *args, **kwargs))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait([call])
            raise

    async def run_patiently(self, within_s: float, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``run``, tried again for ``within_s`` seconds while another writer holds the ledger. Raises LedgerBusy.

        For what must not be lost because of a busy moment: that a server was stopped, that it has ended. ``math.inf``
        is for work that is kept: a disk that is full is so until somebody comes.
        """
        deadline = asyncio.get_running_loop().time() + within_s
        for delay_s in delays(0.2, 2.0):
            try:
                return await self.run(fn, *args, **kwargs)
            except LedgerBusy:
                if asyncio.get_running_loop().time() + delay_s > deadline:
                    raise
            await asyncio.sleep(delay_s)
        raise AssertionError("delays() never ends")

    async def _rows(self, ids: Sequence[str]) -> list[LaunchRow | None]:
        found = await self.run(self.ledger.these, ids)
        return [found.get(each) for each in ids]

    async def _looked(self, looks: Sequence[tuple[str, Observation, datetime]]) -> list[None]:
        await self.run(self.ledger.record_observations, looks)
        return [None] * len(looks)

    async def _adopt(self, ids: Sequence[str]) -> list[Exception | None]:
        ours = await self.run(self.ledger.adopt_these, ids, self.boot_id, now=utcnow())
        ended = IllegalMove("A launch that has ended cannot be adopted.")
        return [None if each in ours else ended for each in ids]

    async def _user_names(self, account_ids: Sequence[str]) -> list[str | None]:
        found = await self.run(self.ledger.accounts.user_names, account_ids)
        return [found.get(each) for each in account_ids]

    def look(self, within_s: float, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A question to the ledger where nothing can be awaited: the loop stands for it, at most ``within_s`` seconds.

        Raises LedgerBusy where there is no answer by then. Only for what reads, and seldom.
        """
        return self._pool.wait(within_s, fn, *args, **kwargs)

    def keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that nobody's cancellation ends; the loop alone would hold it only weakly."""
        task = asyncio.get_running_loop().create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
        return task

    def settling(self, launch_id: str, begin: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """The one task that ends this launch, begun if need be: its watcher, a poll and a stop may see the same end."""
        task = self._settling.get(launch_id)
        if task is None or task.done():
            task = self._settling[launch_id] = self.keep(begin())
        return task

    def backend(self, name: str) -> Backend:
        """The backend of that name; raises ConfigError where none is configured."""
        if name not in self._built:
            if name not in self.backends:
                known = ", ".join(sorted(self.backends)) or "none"
                raise ConfigError(f"Backend {name!r} is not configured; DaasHub.backends has: {known}.")
            cls: type[Backend] = self.backends[name]
            self._built[name] = cls(parent=self, hub_id=self.hub_id)
            self._built[name].tls = self.tls
        return self._built[name]

    def shares_uid(self) -> bool:
        """Whether nobody runs under a uid of her own anywhere here (`LocalBackend.allow_shared_uid`)."""
        return all(self.backend(name).shares_uid for name in self.backends)

    @property
    def default_backend(self) -> str:
        """The word of the first configured backend."""
        return str(next(iter(self.backends)))

    def backend_sections(self) -> list[str]:
        """The names under which the backends' classes are configured, their parents' included."""
        classes: list[type[Backend]] = list(self.backends.values())
        return sorted({name for cls in classes for name in cls.section_names()} - {"Configurable"})

    def absolute_ledger_url(self) -> str:
        """The ledger's URL for processes with another working directory."""
        return absolute_url(self.ledger_url)
