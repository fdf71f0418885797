"""The wait for a server on the cluster: looked at soon once its port is known, and seldom before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from daas_hub.backends import slurm_start
from daas_hub.backends.slurm_start import Reports, wait_ready
from daas_hub.core.looks import LOOK_EVERY_S, LOOKS_PER_S
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import Ref

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
REF = Ref("l1", "hub", "ada", 5001, 5000, "/home/ada", "/user/ada/", tls=False, asked_at=NOW, job_id=7)
JOB = Job(
    id=7, state="RUNNING", uid=5001, user="ada", partition="cpu", host="cpu1", submitted_at=NOW, started_at=NOW,
    expected_at=None, limit_s=None, elapsed_s=0, priority=1, reason="", cpus=1, memory_bytes=None, gpus=0,
    gpu_types=(), comment="daas:hub:l1",
)  # fmt: skip
WAITING_S, POLL_S = 1.5, 2.5


class Place:
    """A cluster on which the job goes through ``states``, one each time that it is looked at, and then runs; its
    server reports when it was looked at so often, and answers after so many looks more."""

    def __init__(self, states: list[str], *, reports_after: int, silent: int) -> None:
        self.states, self.reports_after, self.silent = states, reports_after, silent
        self.reports = Reports()
        self.pauses: list[float] = []
        settings = SimpleNamespace(waiting_interval_s=WAITING_S, poll_interval_s=POLL_S, answer_timeout_s=300)
        self.tools: Any = SimpleNamespace(settings=settings, ends=self, watch=self)

    @contextmanager
    def follow(self, _ref: Ref, *, waiting: bool) -> Iterator[asyncio.Event]:
        assert waiting
        yield asyncio.Event()

    async def job(self, _ref: Ref, *, max_age_s: float) -> Job:
        assert max_age_s == POLL_S + WAITING_S
        if self.states:
            state = self.states.pop(0)
            return replace(JOB, state=state, started_at=None if state == "PENDING" else NOW)
        self.reports_after -= 1
        if not self.reports_after:
            self.reports.put(replace(REF, port=4000, port_of=NOW.timestamp()))
        return JOB

    async def answers(self, ref: Ref) -> bool:
        assert (ref.port, ref.node) == (4000, "cpu1")
        self.silent -= 1
        return self.silent < 0

    async def pause(self, within_s: float, *_events: asyncio.Event) -> None:
        """In the place of ``first_of``: nobody waits."""
        self.pauses.append(within_s)


async def test_a_server_is_looked_at_soon_once_its_port_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(["PENDING", "PENDING"], reports_after=3, silent=2)
    monkeypatch.setattr(slurm_start, "first_of", place.pause)
    ref = await wait_ready(REF, place.tools, place.reports)
    assert (ref.port, ref.node) == (4000, "cpu1")
    assert place.pauses == [5 * POLL_S, 5 * POLL_S, WAITING_S, WAITING_S, LOOK_EVERY_S, LOOK_EVERY_S]
    assert place.reports.looking == set()


async def test_many_starts_share_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place([], reports_after=1, silent=1)
    others = {f"other{number}" for number in range(LOOKS_PER_S)}
    place.reports.looking |= others
    monkeypatch.setattr(slurm_start, "first_of", place.pause)
    await wait_ready(REF, place.tools, place.reports)
    assert place.pauses == [(LOOKS_PER_S + 1) / LOOKS_PER_S]
    # It is counted no more.
    assert place.reports.looking == others


async def test_one_that_goes_away_is_not_counted_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place([], reports_after=1, silent=10**6)
    paused = asyncio.Event()

    async def for_ever(_within_s: float, *_events: asyncio.Event) -> None:
        paused.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(slurm_start, "first_of", for_ever)
    wait = asyncio.create_task(wait_ready(REF, place.tools, place.reports))
    await paused.wait()
    assert place.reports.looking == {"l1"}
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert place.reports.looking == set()
