"""The servers of one directory: those of the settings and those of DNS, and which of them failed lately."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dns.exception
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from daas_hub.core.failover import Failure, Server, discovered, order

log = logging.getLogger("daas_hub.directory")

LOOK_UP_WITHIN_S = 2.0
"""For one answer of DNS: much less than a login may take."""
LEAST_TTL_S, MOST_TTL_S = 5.0, 86_400.0
RETRY_S = 30.0
"""After DNS failed, for so long what it said before counts."""
Record = tuple[int, int, int, str]
"""Priority, weight, port, target."""


@dataclass(frozen=True)
class Found:
    """What DNS said, and for how long it counts."""

    records: Sequence[Record]
    ttl_s: float


def look_up(domain: str, resolver: dns.resolver.Resolver | None = None) -> Found:
    """The SRV records of the domain's directory. Blocking, for ``LOOK_UP_WITHIN_S``; raises DNSException."""
    asked = resolver or dns.resolver.Resolver()
    answer = asked.resolve(f"_ldap._tcp.{domain.rstrip('.')}.", "SRV", lifetime=LOOK_UP_WITHIN_S)
    records = [
        (record.priority, record.weight, record.port, record.target.to_text())
        for record in answer
        if isinstance(record, SRV)
    ]
    return Found(records, max(0.0, answer.expiration - time.time()))


class Servers:
    """Used from the loop and from threads. ``look_up`` is asked in threads only."""

    def __init__(
        self,
        servers: Sequence[Server],
        domain: str = "",
        *,
        hold_s: float,
        look_up: Callable[[str], Found] = look_up,
    ) -> None:
        self._listed = list(servers)
        self._found: list[Server] = []
        self._domain, self._hold_s, self._look_up = domain, hold_s, look_up
        self._good_until = 0.0 if domain else float("inf")
        self._failures: dict[str, Failure] = {}
        self._lock = threading.Lock()
        self._looking_up = threading.Lock()

    @property
    def known(self) -> list[Server]:
        """All servers, as far as DNS was asked."""
        return [*self._listed, *self._found]

    @property
    def all_held(self) -> bool:
        """Whether nobody can be asked just now. Never waits."""
        known = self.known
        return bool(known) and not self._order(known) and time.monotonic() < self._good_until

    def why_nobody(self) -> str:
        """For the log: why no server is asked."""
        known = [server.uri for server in self.known]
        if not known:
            return f"DNS gives no server of {self._domain} (srv_domain)"
        return f"none of {', '.join(known)} is asked: each failed a moment ago (hold_down_s)"

    def ask_dns(self) -> None:
        """Look DNS up where its last answer is too old; one thread does, others wait only if nothing is known yet."""
        if time.monotonic() < self._good_until or not self._looking_up.acquire(blocking=not self.known):
            return
        try:
            if time.monotonic() >= self._good_until:
                self._refresh()
        finally:
            self._looking_up.release()

    def _refresh(self) -> None:
        try:
            answer = self._look_up(self._domain)
        except (dns.exception.DNSException, OSError) as error:
            kept = f"{len(self._found)} servers of the last answer are kept" if self._found else "none is known"
            log.warning("DNS gives no servers of %s (%s): %s", self._domain, kept, error)
            self._good_until = time.monotonic() + RETRY_S
            return
        found, outside = discovered(answer.records, self._domain)
        if outside:
            log.warning("Servers that DNS names outside %s are not asked: %s", self._domain, ", ".join(outside))
        self._found = found
        self._good_until = time.monotonic() + min(max(answer.ttl_s, LEAST_TTL_S), MOST_TTL_S)

    def next(self, asked: Sequence[str], within_s: float) -> tuple[Server | None, bool]:
        """The best server that this question has not asked, and whether there is yet another one after it.

        One that was held and may be tried again is then this question's alone, for ``within_s`` at most.
        """
        with self._lock:
            now = time.monotonic()
            left = [server for server in self._order(self.known) if server.uri not in asked]
            if not left:
                return None, False
            failure = self._failures.get(left[0].uri)
            if failure is not None and failure.slow:
                self._failures[left[0].uri] = replace(failure, tried_until=now + within_s)
            return left[0], len(left) > 1

    def failed(self, uri: str, *, slow: bool) -> None:
        """Nothing good came from it."""
        with self._lock:
            before = self._failures.get(uri)
            self._failures[uri] = Failure(time.monotonic(), slow)
        if before is None:
            log.warning("The directory's server %s failed; it is held for %g s", uri, self._hold_s)

    def well(self, uri: str) -> None:
        """It answered."""
        if uri in self._failures:
            with self._lock:
                self._failures.pop(uri, None)
            log.warning("The directory's server %s is back", uri)

    def _order(self, servers: Sequence[Server]) -> list[Server]:
        return order(servers, self._failures, time.monotonic(), hold_s=self._hold_s, draw=_draw)


def _draw(most: int) -> int:
    return secrets.randbelow(most + 1)
