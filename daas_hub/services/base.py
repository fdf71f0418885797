"""What our managed services without pages share: settings, the end with their hub, the lease, the loop.

A hub starts its services in sessions of their own, so they survive a hub that is killed, and the next hub starts
them again. Two things keep that from doing harm: a service ends itself when its hub is gone, and it acts only while
it holds the lease row of its name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, ParamSpec, TypeVar

from traitlets import Float
from traitlets.config import Config, LoggingConfigurable
from traitlets.utils.importstring import import_item

from daas_hub.backends.base import Backend
from daas_hub.core.errors import ConfigError, DaasError, LedgerBusy
from daas_hub.core.models import LaunchState, Life, Observation
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import LaunchRow, Ledger
from daas_hub.db.pool import LedgerPool

from .parent import end_with_parent
from .settings import Environment

P = ParamSpec("P")
T = TypeVar("T")
STOP_WITHIN_S = 50.0


def utcnow() -> datetime:
    """The one clock of a service: an aware datetime in UTC."""
    return datetime.now(UTC)


class Service(LoggingConfigurable):
    """A loop that acts only while it holds its lease. Subclasses give ``word`` and ``turn``."""

    word: ClassVar[str] = ""
    """Names the lease and the log: ``culler``."""

    lease_s = Float(
        15.0,
        min=3.0,
        help="How long the lease lasts, in seconds, that makes sure that only one process of this kind acts. It is "
        "renewed after a third of it. 15: a killed service is replaced well within 30 s; less means more writes.",
    ).tag(config=True)

    def __init__(self, environment: Environment, *, ledger: Ledger | None = None, **kwargs: Any) -> None:
        super().__init__(config=Config(environment.config), **kwargs)
        self.environment = environment
        self.ledger = ledger or Ledger.open(environment.ledger_url, create=False)
        self._pool = LedgerPool()
        self._backends: dict[str, Backend] = {}
        self._holder = f"{os.getpid()}-{new_id()}"
        self._lease_until = 0.0
        self._wake = asyncio.Event()
        self._ended = False

    # ------------------------------------------------------------ what subclasses do

    async def turn(self) -> float:
        """Do what is due and return in how many seconds to come again. Called only with the lease held."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Let go of what a turn left running."""

    # ------------------------------------------------------------ what they use

    async def run_in_ledger(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A ledger call in the bounded thread pool."""
        return await self._pool.run(fn, *args, **kwargs)

    def backend(self, name: str) -> Backend:
        """The configured backend of that name, built once. Raises ConfigError where there is none."""
        if name not in self._backends:
            known = self.environment.backends
            if name not in known:
                raise ConfigError(f"Backend {name!r} is not configured; DaasHub.backends has: {', '.join(known)}.")
            cls: type[Backend] = import_item(known[name])
            self._backends[name] = cls(config=self.config, hub_id=self.environment.hub_id)
            self._backends[name].tls = self.environment.tls
        return self._backends[name]

    # ------------------------------------------------------------ the end of a launch

    async def stop_launch(self, row: LaunchRow) -> bool:
        """Stop the server of a launch whose target is STOPPED, at its backend; True once that is certain.

        The hub is not asked: it knows servers by the names of users, which change. A hub that watches the launch sees
        its end at once and settles it, so that nobody else cleans up beside it; the reconciler does where it did not.
        What is not certain stays STOPPING, counted, and comes again.
        """
        row = await self.run_in_ledger(self.ledger.move, row.id, LaunchState.STOPPING, now=utcnow())
        if row.handle is None:
            return False
        self.log.info("Stopping launch %s of %s: %s", row.id, row.user_name, row.target_reason)
        seen = await self.backend(row.backend).stop(row.handle, within_s=STOP_WITHIN_S)
        if seen.life is Life.ENDED:
            if row.hub_boot_id == self.environment.boot_id:
                return True
            return await self.settle_launch(row, seen, f"{row.backend} stopped it")
        await self.run_in_ledger(self.ledger.record_observation, row.id, seen, now=utcnow())
        self.log.error("Launch %s of %s still does not stop: %s", row.id, row.user_name, seen.reason)
        return False

    async def settle_launch(self, row: LaunchRow, seen: Observation, evidence: str) -> bool:
        """Remove what a launch left, then end it on evidence; True where this call ended it."""
        backend = self.backend(row.backend)
        await (backend.cleanup_lost(row.id) if row.handle is None else backend.cleanup(row.handle))
        ended = await self.run_in_ledger(
            self.ledger.settle,
            row.id,
            code=seen.exit_code,
            reason=seen.reason,
            evidence=evidence,
            now=utcnow(),
            booked=seen.booked,
            time_over=seen.time_over,
        )
        if ended:
            self.log.info("Launch %s of %s is settled: %s (%s)", row.id, row.user_name, seen.reason, evidence)
        return ended

    # ------------------------------------------------------------ the lease

    @property
    def lease(self) -> str:
        """The row's name: one per hub and kind."""
        return f"{self.word}:{self.environment.hub_id}"

    @property
    def holds_lease(self) -> bool:
        """Whether it may act now. Judged by a clock that nobody sets, and a little before the row runs out."""
        return time.monotonic() < self._lease_until

    async def _keep_lease(self) -> None:
        """Hold or wait for the lease, for ever."""
        while True:
            asked_at, held = time.monotonic(), self.holds_lease
            try:
                got = await self.run_in_ledger(
                    self.ledger.leases.acquire, self.lease, self._holder, self.lease_s, utcnow()
                )
                self._lease_until = asked_at + self.lease_s * 0.8 if got else 0.0
            except LedgerBusy as error:
                # What is held stays held until its time is over.
                self.log.warning("The lease was not renewed just now: %s", error.log_message)
            except DaasError as error:
                self.log.error("The lease cannot be had: %s", error.log_message)
            if self.holds_lease and not held:
                self.log.info("The %s of hub %s acts from now on", self.word, self.environment.hub_id)
                self._wake.set()
            elif held and not self.holds_lease:
                self.log.warning("The %s of hub %s has lost its lease and waits", self.word, self.environment.hub_id)
            await asyncio.sleep(self.lease_s / 3)

    # ------------------------------------------------------------ the loop

    def wake(self) -> None:
        """Take the next turn now."""
        self._wake.set()

    async def run(self) -> None:
        """Take turns until cancelled. What fails in a turn is logged; the next one comes all the same."""
        keeper = asyncio.create_task(self._keep_lease())
        try:
            while True:
                self._wake.clear()
                wait_s = await self._turn() if self.holds_lease else self.lease_s / 3
                try:
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                except TimeoutError:
                    continue
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._close()

    async def _turn(self) -> float:
        try:
            return await self.turn()
        except DaasError as error:
            self.log.error("This turn was not finished: %s", error.log_message)
        except Exception:
            # A service that ends on a surprise is started again by nobody.
            self.log.exception("This turn was not finished")
        return jittered(self.lease_s)

    async def _close(self) -> None:
        await self.finish()
        for backend in self._backends.values():
            await backend.close()
        if self.holds_lease:
            try:
                await self.run_in_ledger(self.ledger.leases.release, self.lease, self._holder)
            except DaasError as error:
                self.log.warning("The lease was not given back: %s", error.log_message)
        self._pool.close()
        await asyncio.to_thread(self.ledger.close)


def jittered(seconds: float) -> float:
    """The same, up to a tenth longer, so that services which start together do not stay together."""
    return seconds * (1 + random.random() / 10)  # noqa: S311


def main(cls: type[Service]) -> None:
    """The entry point of ``python -m daas_hub.services.<word>``; a setting that cannot work ends it with one line."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname).1s %(asctime)s %(name)s] %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        environment = Environment.read(os.environ)
        asyncio.run(_serve(cls, environment))
    except ConfigError as error:
        raise SystemExit(error.log_message) from error


async def _serve(cls: type[Service], environment: Environment) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # After the handlers, so that the signal of a hub that is already gone is not lost.
    end_with_parent(environment.hub_pid, lambda: loop.call_soon_threadsafe(ended.set))
    # One descriptor per server that is watched or asked.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    service = cls(environment, log=logging.getLogger(f"daas_hub.{cls.word}"))
    running = asyncio.create_task(service.run())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    waiting.cancel()
    results = await asyncio.gather(running, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
