"""One question serves all: whoever asks it, all who follow a launch hear of it; and who waits for long asks no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from daas_hub.backends.slurm_watch import SOON_S, JobWatch
from daas_hub.clients.slurm_look import SharedLook
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import Ref
from tests.waiting import until

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
REF = Ref("l1", "hub", "ada", 5001, 5000, "/home/ada", "/user/ada/", tls=False, asked_at=NOW, job_id=7)
JOB = Job(
    id=7, state="PENDING", uid=5001, user="ada", partition="cpu", host="", submitted_at=NOW, started_at=None,
    expected_at=None, limit_s=None, elapsed_s=0, priority=1, reason="Priority", cpus=1, memory_bytes=None, gpus=0,
    gpu_types=(), comment="daas:hub:l1",
)  # fmt: skip
LONG_S, SHORT_S = 7200.0, 3600.0
"""So seldom that no question of the watch's own comes into a test but the first."""


class Cluster:
    """What squeue says, until the test changes it."""

    def __init__(self) -> None:
        self.job, self.away, self.asked = JOB, False, 0
        look = SharedLook(self.jobs)
        self.watch = JobWatch(look, logging.getLogger("test"), every_s=LONG_S, waiting_s=SHORT_S)

    async def jobs(self) -> dict[int, Job]:
        self.asked += 1
        if self.away:
            raise BackendUnavailable("no", reason="refused", log_message="squeue reaches no server")
        return {7: self.job}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    yield cluster
    await cluster.watch.close()


async def test_who_follows_hears_of_an_answer_that_somebody_else_asked_for(cluster: Cluster) -> None:
    with cluster.watch.follow(REF) as changed:
        await until(changed.is_set, what="the watch's own first question is answered")
        changed.clear()
        # Nothing has changed: nobody is woken.
        await cluster.watch.jobs(0)
        assert not changed.is_set()
        cluster.job = replace(JOB, state="RUNNING", host="cpu1", started_at=NOW)
        await cluster.watch.jobs(0)
        assert changed.is_set()
        assert await cluster.watch.heard() == {7: cluster.job}
        assert cluster.asked == 3
        # An answer that was there already tells nobody again.
        changed.clear()
        await cluster.watch.jobs(LONG_S)
        assert (changed.is_set(), cluster.asked) == (False, 3)


async def test_a_failed_question_of_somebody_else_changes_nothing_for_who_follows(cluster: Cluster) -> None:
    with cluster.watch.follow(REF) as changed:
        await until(changed.is_set, what="the watch's own first question is answered")
        changed.clear()
        cluster.away = True
        with pytest.raises(BackendUnavailable):
            await cluster.watch.jobs(0)
        assert not changed.is_set()
        assert await cluster.watch.heard() == {7: JOB}


async def test_who_waits_makes_questions_frequent_for_a_while(cluster: Cluster) -> None:
    now = asyncio.get_running_loop().time()
    with cluster.watch.follow(REF):
        assert cluster.watch.pause_s(now) == LONG_S
        with cluster.watch.follow(REF, waiting=True):
            begun_by = asyncio.get_running_loop().time()
            assert cluster.watch.pause_s(now) == SHORT_S
            assert cluster.watch.pause_s(now + SOON_S / 2) == SHORT_S
            assert cluster.watch.pause_s(begun_by + SOON_S) == LONG_S
        assert cluster.watch.pause_s(now) == LONG_S
