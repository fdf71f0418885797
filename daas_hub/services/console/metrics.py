"""What Prometheus gets: `<noun>_<verb>_<unit>`. Gauges are read from the ledger when they are asked for."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from tornado.web import RequestHandler

from daas_hub.core.models import ACTIVE

from .store import Store


class Metrics:
    """The metrics of one console process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "daas_requests_answer_seconds",
            "Time to answer a request of the console, by method and status.",
            ["method", "status"],
            registry=self.registry,
        )
        self.launches = Gauge(
            "daas_launches_hold_count",
            "Launches that hold a reservation now, by state and backend.",
            ["state", "backend"],
            registry=self.registry,
        )
        self.cores = Gauge(
            "daas_reservations_hold_cores",
            "Cores that are reserved now, by backend.",
            ["backend"],
            registry=self.registry,
        )
        self.memory = Gauge(
            "daas_reservations_hold_bytes",
            "Memory that is reserved now, by backend.",
            ["backend"],
            registry=self.registry,
        )

    def log_request(self, handler: RequestHandler) -> None:
        """tornado's log function: the path without its query, which may hold what people typed."""
        request, status = handler.request, handler.get_status()
        self.requests.labels(request.method or "", str(status)).observe(request.request_time())
        level = logging.WARNING if status >= 500 else logging.INFO if status >= 400 else logging.DEBUG
        handler.settings["log"].log(
            level, "%d %s %s %.0f ms", status, request.method, request.path[:200], 1000 * request.request_time()
        )

    async def text(self, store: Store) -> bytes:
        """The exposition. What no longer exists is gone from it, and each state is there from the start, as 0."""
        rows = await store.active_rows()
        backends = {row.backend for row in rows} | {"local"}
        counted = Counter((row.state, row.backend) for row in rows)
        self.launches.clear()
        for backend in sorted(backends):
            for state in sorted(ACTIVE):
                self.launches.labels(state.value, backend).set(counted[state, backend])
        _sum(self.cores, rows, "cores", backends)
        _sum(self.memory, rows, "memory_bytes", backends)
        text: bytes = generate_latest(self.registry)
        return text


def _sum(gauge: Gauge, rows: list[Any], what: str, backends: set[str]) -> None:
    gauge.clear()
    for backend in sorted(backends):
        gauge.labels(backend).set(sum(getattr(r.charge, what) or 0 for r in rows if r.backend == backend))
