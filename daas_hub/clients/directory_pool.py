"""Service connections that serve several questions: connect, TLS and bind cost more than the questions of a start.

Few, each lent to one question at a time, looked at before it is lent, kept for seconds only. What is asked on one is
always answered anew: nothing of an answer is kept. Blocking; used from threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from daas_hub.core.errors import DaasError, DirectoryUnavailable

from .directory_queue import Turn
from .directory_session import Session, unavailable

T = TypeVar("T")

IDLE_S = 15.0
"""An unused connection is closed after this: servers and firewalls allow minutes, and a quiet hub holds none."""
LIFE_S = 60.0
"""No connection is lent again after this: a service password or a certificate that was changed counts by then."""
AGAIN_WITHIN_S = 1.0
"""A lent connection that failed faster than this was closed meanwhile by the server: a fresh one is asked."""


@dataclass
class _Kept:
    uri: str
    opened_at: float
    used_at: float
    service: Session
    stack: ExitStack

    def good(self, now: float) -> bool:
        return now - self.used_at < IDLE_S and now - self.opened_at < LIFE_S


class Pool:
    """At most ``most`` idle connections, each bound as the service by ``bind``."""

    def __init__(self, most: int, bind: Callable[[Session], None]) -> None:
        self._most, self._bind = most, bind
        self._idle: list[_Kept] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def ask(self, turn: Turn, fn: Callable[[Session], T]) -> T:
        """``fn(service)`` with the turn's server. It only reads: it is called again where a kept one failed.

        Raises what ``fn`` raises, and DirectoryUnavailable.
        """
        kept = self._take(turn.address.uri)
        if kept is not None:
            began = time.monotonic()
            try:
                return self._on(kept, turn, fn)
            except DirectoryUnavailable:
                if time.monotonic() - began > AGAIN_WITHIN_S:
                    raise
        return self._on(self._open(turn), turn, fn)

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back."""
        with self._lock:
            self._closed, idle, self._idle = True, self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        _close(idle)

    def _open(self, turn: Turn) -> _Kept:
        with ExitStack() as stack:
            service = stack.enter_context(turn.session())
            self._bind(service)
            now = time.monotonic()
            return _Kept(turn.address.uri, now, now, service, stack.pop_all())
        raise AssertionError("the block above returns or raises")

    def _on(self, kept: _Kept, turn: Turn, fn: Callable[[Session], T]) -> T:
        whole = False
        try:
            kept.service.lend(turn.register)
            answer = fn(kept.service)
            whole = True
        except DaasError:
            raise
        except Exception as error:
            # As in ``session``: what ldap3 raises over a connection that was cut is no closed list.
            raise unavailable(turn.address, f"{type(error).__name__}: {error}") from error
        finally:
            turn.release()
            if whole:
                self._give_back(kept)
            else:
                kept.stack.close()
        return answer

    def _take(self, uri: str) -> _Kept | None:
        """The one used last that can be lent; those that cannot are closed."""
        bad: list[_Kept] = []
        found = None
        now = time.monotonic()
        with self._lock:
            for kept in self._idle[::-1]:
                if kept.uri != uri:
                    continue
                self._idle.remove(kept)
                if kept.good(now) and kept.service.quiet:
                    found = kept
                    break
                bad.append(kept)
        _close(bad)
        return found

    def _give_back(self, kept: _Kept) -> None:
        kept.used_at = time.monotonic()
        with self._lock:
            keep = not self._closed and len(self._idle) < self._most and kept.good(kept.used_at)
            if keep:
                self._idle.append(kept)
                self._tidy_later()
        if not keep:
            kept.stack.close()

    def _tidy_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(IDLE_S, self._tidy)
            self._timer.daemon = True
            self._timer.start()

    def _tidy(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._timer = None
            over = [kept for kept in self._idle if not kept.good(now)]
            self._idle = [kept for kept in self._idle if kept.good(now)]
            if self._idle and not self._closed:
                self._tidy_later()
        _close(over)


def _close(connections: list[_Kept]) -> None:
    for kept in connections:
        kept.stack.close()
