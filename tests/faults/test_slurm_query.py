"""The real queue, read: hostile comments, what becomes of a job, accounting, partitions, and what a look costs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from daas_hub.clients import slurm as slurm_client
from daas_hub.clients.slurm import Slurm as Client
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.slurm_cluster import Association
from daas_hub.core.slurm_jobs import Job, Phase, comment_of, launch_of, position
from daas_hub.core.slurm_queue import FIELDS
from daas_hub.core.slurm_words import reason_in_words
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Refused, Slurm
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)
# What separates fields and lines for other programs, or would be a format, an option or another character set.
HOSTILE = [
    comment_of("hub", "0a1b") + "\n",
    "|".join(["9", "RUNNING", "0", "root"] * 6),
    "a\nb\r\nc\tjob 9 RUNNING",
    "".join(map(chr, range(1, 128))),
    "\x1f|\x1f.\n" * 60,
    "%i %T $(id) `id` ; ' \" \\ --all",
    "(null)x",
    "ü" * 500,
    "x" * 1023,
]


@pytest.fixture(name="slurm", scope="module")
def each_version(slurm_any: Slurm) -> Slurm:
    """Every test here runs on each version."""
    return slurm_any


@pytest.fixture
def ask(slurm: Slurm) -> Client:
    """The client, beside the cluster's programs."""
    return Client(prefix=slurm.login(), within_s=60)


@pytest.fixture
def jobs(slurm: Slurm) -> Iterator[Callable[..., int]]:
    """Submit jobs; they are cancelled in the end."""
    ids: list[str] = []

    def submit(*options: str, script: str = "sleep 600", user: str = "ada") -> int:
        ids.append(slurm.submit(script, "--output=/dev/null", *options, user=user))
        return int(ids[-1])

    yield submit
    if ids:
        slurm.ask("scancel", *ids)


async def once(ask: Client, number: int, *phases: Phase) -> Job:
    """The job, in one of these phases."""

    async def there() -> Job | None:
        job = await ask.job(number)
        return job if job is not None and job.phase in phases else None

    found: Job = await until(there, within_s=60, what=f"job {number} is {phases}")
    return found


async def test_hostile_comments_stay_comments(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    names = {jobs(f"--comment={text}", f"--job-name={text[:60]}", "--hold"): text for text in HOSTILE}
    seen = await ask.jobs()
    for number, text in names.items():
        job = seen[number]
        assert job.comment == text
        assert (job.uid, job.user, job.partition) == (PEOPLE["ada"], "ada", "cpu")
        assert (job.state, job.reason, job.cpus, job.host) == ("PENDING", "JobHeldUser", 1, "")
        assert await ask.job(number) == job
    assert launch_of(seen[next(iter(names))].comment, "hub") is None
    # Longer ones SLURM refuses itself, when they are submitted and afterwards.
    with pytest.raises(Refused, match="too long"):
        jobs(f"--comment={'x' * 100_000}")
    with pytest.raises(Refused, match="too long"):
        slurm.run("scontrol", "update", f"jobid={next(iter(names))}", f"comment={'x' * 100_000}")


async def test_bytes_that_are_no_text(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    """With such a comment squeue's JSON cannot be read by anybody."""
    number = jobs("--hold")
    change = [*slurm.login(), "scontrol", "update", f"jobid={number}"]
    subprocess.run([*change, b"comment=\xff\xfe|\xc3"], check=True)
    try:
        assert (await ask.jobs())[number].comment == "\ufffd\ufffd|\ufffd"
        with pytest.raises(UnicodeDecodeError):
            slurm.job(str(number))
    finally:
        subprocess.run([*change, "comment="], check=True)


async def test_a_job_from_its_queue_to_its_account(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    before = int(time.time())
    options = [
        "--partition=gpu",
        "--gres=gpu:1",
        "--mem=300",
        "--cpus-per-task=2",
        "--time=10",
        "--comment=daas:hub:a1",
    ]
    number = jobs(*options, "--hold", script="sleep 600 & wait", user="bob")
    held = (await ask.jobs())[number]
    assert (held.phase, held.reason, held.priority, held.started_at) == (Phase.WAITING, "JobHeldUser", 0, None)
    assert (held.cpus, held.memory_bytes, held.gpus, held.limit_s) == (2, 300 * 2**20, 1, 600)
    slurm.run("scontrol", "release", str(number))
    job = await once(ask, number, Phase.RUNNING)
    assert (job.host, job.uid, job.gpus, job.comment) == ("gpu1", PEOPLE["bob"], 1, "daas:hub:a1")
    assert job.started_at is not None
    assert before <= job.submitted_at.timestamp() <= job.started_at.timestamp() <= time.time() + 1
    slurm.run("scontrol", "suspend", str(number))
    await once(ask, number, Phase.SUSPENDED)
    for_a_while = slurm.job(str(number))["suspend_time"] + 2
    await until(lambda: time.time() >= for_a_while, what="it was suspended for two seconds")
    slurm.run("scontrol", "resume", str(number))
    await once(ask, number, Phase.RUNNING)
    slurm.run("scancel", str(number))
    ended = await once(ask, number, Phase.ENDED)
    assert (ended.state, ended.host) == ("CANCELLED", "gpu1")

    async def settled() -> Any:
        said = (await ask.accounted([number])).get(number)
        return said if said is not None and said.phase is Phase.ENDED else None

    said = await until(settled, within_s=60, what="the accounting has its end")
    assert (said.state, said.user, said.signal, said.node) == ("CANCELLED", "bob", 0, "gpu1")
    assert (said.cpus, said.memory_bytes, said.gpus) == (2, 300 * 2**20, 1)
    assert said.suspended_s >= 1
    whole = (said.ended_at - said.started_at).total_seconds()
    assert said.elapsed_s + said.suspended_s == pytest.approx(whole, abs=1)
    assert said.submitted_at == job.submitted_at


async def test_how_a_job_ended(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    failed, killed = jobs(script="exit 7"), jobs(script="kill -9 $$")

    async def settled() -> Any:
        said = await ask.accounted([failed, killed, 4_000_000])
        return said if len(said) == 2 and all(one.phase is Phase.ENDED for one in said.values()) else None

    said = await until(settled, within_s=60, what="the accounting has both ends")
    assert (said[failed].state, said[failed].exit_code, said[failed].signal) == ("FAILED", 7, 0)
    assert (said[killed].exit_code, said[killed].signal) == (0, 9)
    assert await ask.accounted([]) == {}


WAITS = {
    "PartitionTimeLimit": ["--time=2-0"],
    "BeginTime": ["--begin=now+1hour"],
    "JobHeldUser": ["--hold"],
    "Dependency": ["--dependency=afterok:{}"],
    "DependencyNeverSatisfied": ["--dependency=afternotok:{}"],
    "Resources": ["--partition=gpu", "--exclusive"],
    "Priority": ["--partition=gpu", "--exclusive", "--nice=100"],
}


async def test_why_jobs_wait(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    ended, running = jobs(script="true"), jobs("--partition=gpu", "--exclusive")
    await once(ask, ended, Phase.ENDED)
    await once(ask, running, Phase.RUNNING)
    # Of a job that has ended well, the one waits for its failure; the other one for somebody who runs.
    others = {"Dependency": running, "DependencyNeverSatisfied": ended}
    names = {why: jobs(*(word.format(others.get(why)) for word in words)) for why, words in WAITS.items()}

    async def reasons() -> Any:
        seen = await ask.jobs()
        found = {why: seen[number].reason for why, number in names.items()}
        assert {seen[number].phase for number in names.values()} == {Phase.WAITING}
        return found if found == {why: why for why in names} else None

    found = await until(reasons, within_s=60, what="the scheduler has looked at all of them")
    assert [why for why in found if "SLURM says" in reason_in_words(why).text] == []


async def test_requeued_suspended_and_lost(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    comes_back, held, lost, too_long = jobs(), jobs(), jobs("--no-requeue"), jobs("--time=1")
    for number in (comes_back, held, lost, too_long):
        await once(ask, number, Phase.RUNNING)
    slurm.run("scontrol", "requeue", str(comes_back))
    slurm.run("scontrol", "requeuehold", "state=specialexit", str(held))
    job = await once(ask, comes_back, Phase.WAITING)
    assert (job.host, job.started_at) == ("", None)

    async def two_runs() -> Any:
        runs = (await ask.runs([comes_back])).get(comes_back, ())
        return runs if len(runs) == 2 else None

    first, second = await until(two_runs, within_s=60, what="the accounting has both runs")
    assert (first.state, first.node, first.ended_at is None) == ("REQUEUED", "cpu1", False)
    assert (second.started_at, second.submitted_at) == (None, job.submitted_at)
    assert (await ask.accounted([comes_back]))[comes_back] == second
    job = await once(ask, held, Phase.WAITING)
    assert (job.state, job.priority, reason_in_words(job.reason).helps) == ("SPECIAL_EXIT", 0, False)
    with slurm.lost_node("cpu1"):
        assert (await once(ask, lost, Phase.ENDED)).state == "NODE_FAIL"
        # This one may be requeued, and so it has not ended.
        job = await once(ask, too_long, Phase.WAITING)
        assert job.state == "PENDING"


async def test_only_a_job_that_is_not_known_is_none(ask: Client, jobs: Callable[..., int]) -> None:
    number = jobs("--hold")
    assert await ask.job(4_000_000) is None
    assert (await ask.job(number)) is not None


async def test_the_place_in_the_queue_and_the_start(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    first = jobs("--exclusive", "--partition=gpu", "--time=10")
    await once(ask, first, Phase.RUNNING)
    second, third = (jobs("--exclusive", "--partition=gpu", "--time=10", user=user) for user in ("bob", "eve"))

    async def planned() -> Any:
        starts = await ask.expected_starts()
        return starts if {second, third} <= starts.keys() else None

    starts = await until(planned, within_s=60, what="the scheduler has planned both")
    seen = await ask.jobs()
    assert seen[first].started_at < starts[second] < starts[third]
    assert [position(seen, seen[number]) for number in (first, second, third)] == [None, 1, 2]
    assert seen[third].reason in {"Priority", "Resources"}


def rpcs(slurm: Slurm) -> int:
    """How many questions the controller has had from jobs, nodes and partitions since its counts were reset."""
    said = slurm.run("sdiag")
    counts = re.findall(r"^\s+(REQUEST_(?:JOB_INFO|FED_INFO|PARTITION_INFO|NODE_INFO)\w*)\s.*count:(\d+)", said, re.M)
    return sum(int(number) for _, number in counts)


async def test_one_look_is_one_process_and_three_questions_at_most(
    slurm: Slurm, ask: Client, jobs: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.run("sdiag", "--reset")
    few = len(await ask.jobs())
    assert 1 <= (asked := rpcs(slurm)) <= 3
    jobs("--hold", "--array=1-60")
    for _ in range(40):
        jobs("--hold", f"--comment={'c' * 500}")
    slurm.run("sdiag", "--reset")
    seen = await ask.jobs()
    assert len(seen) >= few + 40
    assert rpcs(slurm) == asked
    # What is said again is not read again: the same objects.
    again = await ask.jobs()
    assert sum(job is seen.get(number) for number, job in again.items()) >= 40
    # A long answer is read in a thread, and is the same.
    monkeypatch.setattr(slurm_client, "IN_LOOP_CHARACTERS", 0)
    assert (await ask.jobs()).keys() == seen.keys()


async def test_partitions_and_their_nodes(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    number = jobs("--partition=gpu", "--gres=gpu:1", "--mem=1000")
    await once(ask, number, Phase.RUNNING)
    said = {partition.name: partition for partition in await ask.partitions()}
    assert [name for name, partition in said.items() if partition.default] == ["cpu"]
    both, gpu = said["any"], said["gpu"]
    assert (gpu.state, gpu.max_time_s, gpu.default_time_s, gpu.idle_nodes) == ("UP", 86400, None, 0)
    assert (gpu.cpus, gpu.cpus_free, gpu.gpus, gpu.gpus_free) == (8, 7, {"": 2}, {"": 1})
    assert gpu.memory_bytes - gpu.memory_free_bytes == 1000 * 2**20
    assert [(node.name, node.address) for node in both.nodes] == [
        (name, slurm.addresses[name]) for name in ("cpu1", "gpu1")
    ]
    assert gpu.admits("lab")
    slurm.run("scontrol", "update", "nodename=gpu1", "state=drain", "reason=a | b")
    try:
        (node,) = {one.name: one for one in await ask.partitions()}["gpu"].nodes
        assert (node.usable, node.cpus_free, node.memory_free_bytes, node.gpus_free) == (False, 0, 0, {"": 0})
    finally:
        slurm.run("scontrol", "update", "nodename=gpu1", "state=resume")


async def test_who_may_submit_where(slurm: Slurm, ask: Client) -> None:
    assert await ask.associations("ada") == (Association("lab", "", ("normal",), "", True, None),)
    assert await ask.associations("nobody.here") == ()
    # A list of names would be an answer about others.
    assert await ask.associations("ada,bob") == ()
    assert await ask.reservations() == ()
    words = ["starttime=now", "duration=60", "users=ada", "nodes=gpu1", "flags=ignore_jobs"]
    slurm.run("scontrol", "create", "reservation", "reservationname=beam", *words)
    try:
        (reservation,) = await ask.reservations()
        assert (reservation.name, reservation.active, reservation.nodes) == ("beam", True, "gpu1")
        assert (reservation.admits("ada", "lab"), reservation.admits("bob", "lab")) == (True, False)
        assert reservation.ends_at is not None
        assert reservation.starts_at is not None
        assert (reservation.ends_at - reservation.starts_at).total_seconds() == 3600
    finally:
        slurm.run("scontrol", "delete", "reservation=beam")


async def test_settings(ask: Client) -> None:
    assert (await ask.settings())["ClusterName"] == "daas"
    assert await ask.sees_all_jobs("ada")


def as_user(slurm: Slurm, user: str) -> list[str]:
    """The words before a program that runs it as a user, with the environment that it is given."""
    return [*slurm.world.login(), "setpriv", f"--reuid={user}", f"--regid={LAB_GID}", "--init-groups"]


async def test_words_that_drop_the_environment_are_found_out(
    slurm: Slurm, ask: Client, jobs: Callable[..., int]
) -> None:
    number = jobs("--hold")
    await until(lambda: ask.accounted([number]), within_s=60, what="the accounting has heard of it")
    without = Client(prefix=[*slurm.world.login(), "env", "--ignore-environment", f"PATH={os.environ['PATH']}"])
    for asked in (without.jobs(), without.job(number), without.accounted([number])):
        with pytest.raises(BackendUnavailable) as caught:
            await asked
        assert caught.value.reason == "answer"


@contextmanager
def private_jobs(slurm: Slurm) -> Iterator[None]:
    """Everybody sees only her own jobs, operators all."""
    with slurm.settings(lambda conf: f"{conf}\nPrivateData=jobs\n"):
        yield


async def test_a_hub_that_may_not_see_a_job_can_know_it(slurm: Slurm, ask: Client, jobs: Callable[..., int]) -> None:
    number = jobs("--hold", user="bob")
    eve = Client(prefix=as_user(slurm, "eve"), within_s=60)
    assert await eve.sees_all_jobs("eve")
    assert await eve.job(number) == await ask.job(number)
    with private_jobs(slurm):
        # There is such a job, and she is told that there is none: that is why who asks must be an operator.
        assert await until_none(eve, number)
        assert not await eve.sees_all_jobs("eve")
        assert await ask.job(number) is not None
        assert await ask.sees_all_jobs("root")
        slurm.run("sacctmgr", "--immediate", "modify", "user", "eve", "set", "adminlevel=Operator")
        try:
            # Of the accounting; these controllers hear of the change only when they start.
            assert await eve.sees_all_jobs("eve")
        finally:
            slurm.run("sacctmgr", "--immediate", "modify", "user", "eve", "set", "adminlevel=None")


async def until_none(ask: Client, number: int) -> bool:
    async def none() -> bool:
        return await ask.job(number) is None

    return bool(await until(none, within_s=60, what="the setting is in force"))


async def test_nothing_of_the_hubs_environment_reaches_a_program(
    monkeypatch: pytest.MonkeyPatch, ask: Client, jobs: Callable[..., int]
) -> None:
    number = jobs("--hold")
    for name, value in (("SQUEUE_FORMAT", "%i"), ("SQUEUE_USERS", "eve"), ("SLURM_TIME_FORMAT", "relative")):
        monkeypatch.setitem(os.environ, name, value)
    assert number in await ask.jobs()


def test_the_fields_have_no_text_of_a_user_but_two() -> None:
    assert {"JobName", "WorkDir", "Command", "AdminComment"}.isdisjoint(FIELDS)
