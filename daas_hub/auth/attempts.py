"""Guessing passwords is slow here, and locks nobody out of the site: limits per person and per address."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tornado import web
from traitlets import Float, HasTraits, Int

from daas_hub.core.attempts import Failures, network_of
from daas_hub.core.errors import TooManyAttempts


class Attempt:
    """One sign-in. ``failed`` is set by whoever judged it; an attempt that was not judged is no failure."""

    def __init__(self, limits: Limits, address: str) -> None:
        self._limits, self._address = limits, address
        self._who: str | None = None
        self.failed: bool | None = None

    def begin(self) -> None:
        """Raise TooManyAttempts where this address has failed too often."""
        self._limits.begin(self._limits.by_address, self._address)

    def admit(self, who: str) -> None:
        """Raise TooManyAttempts where somebody's password was wrong too often. May be called in a thread."""
        self._limits.begin(self._limits.by_name, who)
        self._who = who

    def end(self) -> None:
        """Count it, or not."""
        if self.failed:
            return
        proved = self.failed is False
        self._limits.take_back(self._limits.by_address, self._address, clear=False)
        if self._who is not None:
            self._limits.take_back(self._limits.by_name, self._who, clear=proved)


class Limits:
    """What is remembered of failures, by person and by address. Safe in threads."""

    def __init__(self, per_name: int, per_address: int, within_s: float) -> None:
        self.by_name, self.by_address = Failures(per_name, within_s), Failures(per_address, within_s)
        self._lock = threading.Lock()

    def begin(self, kind: Failures, key: str) -> None:
        """Count an attempt. Raises TooManyAttempts."""
        with self._lock:
            wait_s = kind.begin(key, time.monotonic())
        if wait_s:
            minutes = math.ceil(wait_s / 60)
            when = "in a minute" if minutes == 1 else f"in {minutes} minutes"
            whose = "this name" if kind is self.by_name else "where you are"
            raise TooManyAttempts(
                f"Too many sign-ins failed for {whose}. Your password was not judged; try again {when}.",
                reason="attempts_name" if kind is self.by_name else "attempts_address",
                retry_after_s=math.ceil(wait_s),
            )

    def take_back(self, kind: Failures, key: str, *, clear: bool) -> None:
        """The attempt was no failure."""
        with self._lock:
            kind.take_back(key, clear=clear)


class Attempts(HasTraits):
    """A mixin of authenticators that judge passwords."""

    attempts_per_name = Int(
        5,
        min=0,
        help="Failed sign-ins of one person within `attempts_within_s`; further ones are refused before her password "
        "is tried. 5, because sites lock an account after 5 to 10 and nobody must do that to her from here; a proof of "
        "the password forgives them. 0: no limit.",
    ).tag(config=True)

    attempts_per_address = Int(
        100,
        min=0,
        help="Failed sign-ins from one address (IPv6: one /64) within `attempts_within_s`. 100, because a lecture hall "
        "may have one address. 0: no limit.",
    ).tag(config=True)

    attempts_within_s = Float(
        600.0, min=1, help="Seconds after which a failed sign-in is forgotten; as long as Windows counts them."
    ).tag(config=True)

    _limits: Limits | None = None

    @asynccontextmanager
    async def attempt(self, handler: Any) -> AsyncIterator[Attempt]:
        """One sign-in; 429 with `Retry-After` where too many failed. What raises in between counts as not judged."""
        if self._limits is None:
            self._limits = Limits(self.attempts_per_name, self.attempts_per_address, self.attempts_within_s)
        request = getattr(handler, "request", None)
        attempt = Attempt(self._limits, network_of(getattr(request, "remote_ip", None) or "unknown"))
        try:
            attempt.begin()
            try:
                yield attempt
            finally:
                attempt.end()
        except TooManyAttempts as error:
            told = web.HTTPError(429, error.message, reason="Too Many Requests")
            # What JupyterHub's pages copy into their answer (handlers/base.py, write_error).
            vars(told)["headers"] = {"Retry-After": str(error.retry_after_s)}
            raise told from error
