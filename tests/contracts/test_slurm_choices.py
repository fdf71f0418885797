"""What a person is offered is what runs, and what she is refused never does: compared with jobs on real clusters."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from daas_hub.core.errors import InvalidOptions
from daas_hub.core.slurm_choices import May, check
from daas_hub.core.slurm_offers import Offer, offers
from tests.servers.slurm.rig import BEAM, FAST, KID, LAB, TIM, TIMS_QOS, Slurm
from tests.servers.slurm_place import SlurmPlace, slurm_place
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)
STAFF = "chstaff"
PARTITIONS = {"chbeam": f"AllowAccounts={BEAM}", "chfast": f"AllowQos={FAST}", "chstaff": f"AllowGroups={STAFF}"}
GROUPS = {"ada": [LAB], "bob": [LAB, STAFF], "eve": [LAB], TIM: [LAB]}
ALL = {"partition": ["", *PARTITIONS], "slurm_account": ["", LAB, BEAM, KID], "qos": ["", FAST]}
WORDS = {"partition": "--partition=", "slurm_account": "--account=", "qos": "--qos=", "reservation": "--reservation="}
RUNTIME = {"runtime": "--time="}
NEVER = {"AccountNotAllowed", "QOSNotAllowed", "PartitionConfig", "InvalidAccount", "InvalidQOS"}
TOO_LONG = {"PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit"}
"""Reasons of jobs that sbatch has taken and that wait for ever: it refuses them only with EnforcePartLimits."""
ENOUGH = "--parsable --mem=100 --time=5 --output=/dev/null --wrap=true"
TIMED = {"chhour": "MaxTime=60", "chopen": "MaxTime=UNLIMITED QOS=tplain", "chown": "MaxTime=120 QOS=tpart"}
TIMES = {"partition": list(TIMED), "qos": [name for name in TIMS_QOS if name != "tpart"],
         "runtime": ["40", "55", "85", "95", "115", "140", "190", "220"]}  # fmt: skip
"""Between any two bounds, and beyond the last."""


@pytest.fixture
def slurm(slurm_any: Slurm) -> Iterator[Slurm]:
    """Partitions for some; in a reservation of its own each bob, and whoever charges beam."""
    here = slurm_any
    here.add_group(STAFF, 30077, "bob")
    for name, who in PARTITIONS.items():
        here.run("scontrol", "create", f"partition={name}", "Nodes=cpu1", "MaxTime=1:00:00", who)
    kept = ("StartTime=now", "Duration=30", "Flags=IGNORE_JOBS", "CoreCnt=1")
    here.run("scontrol", "create", "reservation=chbob", "Users=bob", "Nodes=gpu1", "PartitionName=gpu", *kept)
    here.run("scontrol", "create", "reservation=chpays", f"Accounts={BEAM}", "Nodes=gpu1", "PartitionName=gpu", *kept)
    yield here
    for name in ("chbob", "chpays"):
        here.run("scontrol", "delete", f"reservation={name}")
    for name in PARTITIONS:
        here.run("scontrol", "delete", f"partition={name}")


def ran(slurm: Slurm, user: str, asked: list[dict[str, str]]) -> list[bool]:
    """Whether a job of each ran."""
    tries = [" ".join(f"{(WORDS | RUNTIME)[name]}{text}" for name, text in one.items() if text) for one in asked]
    script = "\n".join(["cd /", *(f"sbatch {ENOUGH} {words} 2>/dev/null || echo refused" for words in tries)])
    said = slurm.run("sh", "-c", script, user=user).split()
    assert len(said) == len(asked), said
    jobs = [job for job in said if job != "refused"]

    def ended() -> dict[str, bool] | None:
        words = ["--noheader", "--states=all", f"--jobs={','.join(jobs)}", "--format=%i|%T|%r"]
        told = [line.split("|") for line in slurm.run("squeue", *words).splitlines()]
        over = [
            (job, state)
            for job, state, reason in told
            if state == "COMPLETED" or reason in NEVER | TOO_LONG or "permitted" in reason
        ]
        found = {job: state == "COMPLETED" for job, state in over}
        return found if len(found) == len(jobs) else None

    try:
        over: dict[str, bool] = slurm.until(ended, within_s=20, what=f"jobs of {user} have run or never will")
    finally:
        slurm.run("scancel", f"--user={user}")
    return [over.get(job, False) for job in said]


def ours(may: May, user: str, asked: dict[str, str]) -> str:
    """What we say where it is refused."""
    try:
        check(may, GROUPS[user], {name: text for name, text in asked.items() if text}, {})
    except InvalidOptions as error:
        return error.message
    return ""


def offered(may: May, user: str) -> dict[str, Offer]:
    found = offers(may, GROUPS[user], [*WORDS, "runtime"], {}, (), datetime.now(UTC))
    return {one.field: one for one in found}


async def seen(place: SlurmPlace, user: str) -> May:
    """What the backend tells, once the accounting has: its first answer takes slurmdbd 24.11 five seconds."""

    async def told() -> May | None:
        may = await place.backend.may_use(user, max_age_s=60)
        return may if may is not None and may.associations is not None else None

    found: May = await until(told, within_s=30, what=f"what {user} may use is known")
    return found


async def test_what_is_offered_runs_and_what_is_not_never_does(slurm: Slurm) -> None:
    combinations = [dict(zip(ALL, values, strict=True)) for values in itertools.product(*ALL.values())]
    reserved = [
        {"partition": partition, "slurm_account": account, "reservation": name}
        for partition, account, name in itertools.product(("cpu", "gpu", "any"), (LAB, BEAM), ("chbob", "chpays"))
    ]
    # What the account above has counts for hers.
    timely = [{"partition": "any", "slurm_account": KID, "runtime": minutes} for minutes in ("190", "210")]
    asked = [*combinations, *reserved, *timely]
    async with slurm_place(slurm) as place:
        for user in ("ada", "bob", "eve"):
            may = await seen(place, user)
            theirs = await asyncio.to_thread(ran, slurm, user, asked)
            mine = [ours(may, user, one) for one in asked]
            assert [each for each in zip(asked, theirs, mine, strict=True) if each[1] is bool(each[2])] == []
            fields = offered(may, user)
            for name in WORDS:
                # Each that goes with anything is offered, and no other.
                tried = {one[name] for one in (reserved if name == "reservation" else combinations) if one[name]}
                possible = {one[name] for one, there in zip(asked, theirs, strict=True) if there and one.get(name)}
                here = {value for value, _ in fields[name].choices} if name in fields else set()
                assert here & tried == possible & tried, (user, name)
            theirs_too = any(value in PARTITIONS for value, _ in fields["partition"].choices)
            assert ("01:00:00" in fields["runtime"].help) is theirs_too


@contextmanager
def timed(slurm: Slurm) -> Iterator[None]:
    """Partitions with and without bounds on time."""
    for name, bounds in TIMED.items():
        slurm.run("scontrol", "create", f"partition={name}", "Nodes=cpu1", *bounds.split())
    try:
        yield
    finally:
        for name in TIMED:
            slurm.run("scontrol", "delete", f"partition={name}")


async def compared(slurm: Slurm, asked: list[dict[str, str]]) -> int:
    """How many of Tim's jobs ran: each, and no other, that is taken here. Settings that we know are the newest."""
    async with slurm_place(slurm) as place:
        may = await seen(place, TIM)
        theirs = await asyncio.to_thread(ran, slurm, TIM, asked)
        mine = [ours(may, TIM, one) for one in asked]
        assert [each for each in zip(asked, theirs, mine, strict=True) if each[1] is bool(each[2])] == []
        return sum(theirs)


async def test_a_walltime_that_is_taken_runs_and_a_longer_one_never_does(slurm_any: Slurm) -> None:
    asked = [dict(zip(TIMES, values, strict=True)) for values in itertools.product(*TIMES.values())]
    with timed(slurm_any):
        ran_then = await compared(slurm_any, asked)
    assert 0 < ran_then < len(asked)
    beyond = [one for one in asked if one["qos"] in ("tbrief", "tplain") and one["runtime"] in ("55", "85")]
    without = slurm_any.settings(lambda conf: conf.replace("associations,limits,qos", "associations,qos"), anew=True)
    with without, timed(slurm_any):
        # Each was more than QOS or association allow; now a partition's time alone counts.
        assert await compared(slurm_any, beyond) == len(beyond) - 2
