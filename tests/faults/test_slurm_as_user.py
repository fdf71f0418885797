"""Submitting while SLURM, munge, sudo or the caller is away: nothing is left, and no launch gets two jobs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from daas_hub.core.errors import BackendUnavailable, StartFailed
from daas_hub.core.naming import new_id
from tests.servers.slurm.rig import LAB_GID, PEOPLE, Slurm
from tests.servers.slurm_helper import PROGRAMS, Helper
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slurm"), pytest.mark.timeout(180)]
SCRIPT = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def helper(slurm: Slurm) -> Iterator[Helper]:
    helper = Helper(slurm)
    yield helper
    helper.allow()


async def submit(helper: Helper, launch_id: str, *, within_s: float = 60) -> int:
    return await helper.as_user.submit(
        helper.account(), hub_id="lab", launch_id=launch_id, script=SCRIPT, files={"a": "b"}, within_s=within_s
    )


def folder_of(helper: Helper, launch_id: str) -> Path:
    return helper.slurm.homes / "ada" / ".daas" / launch_id


def running(*words: str) -> list[int]:
    """The processes of this machine whose command line is exactly that."""
    wanted = b"".join(word.encode() + b"\0" for word in words)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


FAULTS: dict[str, Callable[[Slurm], AbstractContextManager[None]]] = {
    "munge": lambda slurm: slurm.without_munge(),
    "no_configuration": lambda slurm: slurm.without_settings(),
    "refused": lambda slurm: slurm.refused(),
}


@pytest.mark.parametrize("reason", list(FAULTS))
async def test_slurm_is_away(slurm: Slurm, helper: Helper, reason: str) -> None:
    """Each call says so; no folder is left, no job comes about; afterwards there is exactly one."""
    launch_id, account = new_id(), helper.account()
    job = await helper.as_user.submit(
        account, hub_id="lab", launch_id="before", script="#!/bin/sh\nsleep 1000\n", files={}, within_s=30
    )
    if reason == "refused":
        slurm.wait_saved(str(job))
    with FAULTS[reason](slurm):
        calls = [
            submit(helper, launch_id),
            helper.as_user.cancel(account, launch_id="before", job_id=job, clean=True, within_s=60),
            helper.as_user.probe(account, test_script=SCRIPT, within_s=60),
        ]
        # At the same time, as each may try for nine seconds.
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, BackendUnavailable), answer
            assert answer.reason == reason, answer.log_message
        assert not folder_of(helper, launch_id).exists()
        # The job may go on, so it keeps its files.
        assert folder_of(helper, "before").exists()
    assert helper.jobs(launch_id) == []
    assert await submit(helper, launch_id) == int(helper.jobs(launch_id)[0])
    assert len(helper.jobs(launch_id)) == 1
    await helper.as_user.cancel(account, launch_id="before", job_id=job, clean=True, within_s=60)
    await helper.as_user.cancel(account, launch_id=launch_id, job_id=None, clean=True, within_s=60)


@pytest.mark.parametrize("fault", ["silent", "unresolved", "reset"])
async def test_whether_there_is_a_job_is_not_known(slurm: Slurm, helper: Helper, fault: str) -> None:
    """The folder stays for a job that may come about; who looks by the comment before a second try has one job."""
    launch_id = new_id()
    with getattr(slurm, fault)():
        with pytest.raises(BackendUnavailable) as caught:
            # Of the first two nothing comes in any time.
            await submit(helper, launch_id, within_s=60 if fault == "reset" else 2)
        assert caught.value.reason == "unsure", caught.value.log_message
        assert (folder_of(helper, launch_id) / "a").read_text() == "b"
    if fault == "silent":
        # Controllers that only slept carry out what was said to them, although nobody listens any more.
        await until(lambda: helper.jobs(launch_id), what="the job has come about", within_s=30)
    known = helper.jobs(launch_id) or [str(await submit(helper, launch_id))]
    slurm.in_state(known[0], "COMPLETED")
    assert helper.jobs(launch_id) == known
    await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=60)


async def test_a_program_that_hangs_is_ended(helper: Helper) -> None:
    """The hub could not kill what sudo runs: the helper does it, in the caller's time."""
    launch_id, hanging = new_id(), ("/usr/bin/sleep", "98765")
    helper.allow(programs={**PROGRAMS, "sbatch": helper.program("hanging", f"exec {' '.join(hanging)}")})
    with pytest.raises(BackendUnavailable) as caught:
        await submit(helper, launch_id, within_s=1)
    assert caught.value.reason == "unsure"
    assert running(*hanging) == []
    assert folder_of(helper, launch_id).exists()
    await helper.as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=60)
    assert not folder_of(helper, launch_id).exists()


async def test_a_helper_that_she_kills(helper: Helper) -> None:
    """Once it is the account, the account may end it: whether it has submitted before is not known."""
    launch_id = new_id()
    # When sudo's own process goes as well, the terminal's end would be told to what she has there.
    words = f'trap "" HUP TERM; kill -KILL $PPID; exec {PROGRAMS["sbatch"]} "$@"'
    helper.allow(programs={**PROGRAMS, "sbatch": helper.program("killing", words)})
    with pytest.raises(BackendUnavailable) as caught:
        await submit(helper, launch_id)
    assert caught.value.reason == "unsure", caught.value.log_message
    await until(lambda: helper.jobs(launch_id), what="its sbatch has gone on", within_s=30)
    assert (folder_of(helper, launch_id) / "a").exists()
    await helper.as_user.cancel(
        helper.account(), launch_id=launch_id, job_id=int(helper.jobs(launch_id)[0]), clean=True, within_s=60
    )


async def test_a_caller_that_went_away(slurm: Slurm, helper: Helper) -> None:
    """Its submission is carried out, once; the job is found by its comment."""
    launch_id, go = new_id(), slurm.root / "go"
    begun = slurm.homes / "ada" / "begun"
    words = f'touch {begun}; until [ -e {go} ]; do sleep 0.05; done; exec {PROGRAMS["sbatch"]} "$@"'
    helper.allow(programs={**PROGRAMS, "sbatch": helper.program("slow", words)})
    as_user = helper.as_user
    asking = asyncio.ensure_future(
        as_user.submit(helper.account(), hub_id="lab", launch_id=launch_id, script=SCRIPT, files={}, within_s=60)
    )
    await until(begun.exists, what="sbatch has been called", within_s=30)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert helper.jobs(launch_id) == []
    go.touch()
    await until(lambda: helper.jobs(launch_id), what="the job is there", within_s=30)
    assert len(helper.jobs(launch_id)) == 1
    await until(lambda: not as_user._program._left, what="the helper has ended", within_s=30)
    await as_user.cancel(helper.account(), launch_id=launch_id, job_id=None, clean=True, within_s=60)
    begun.unlink()
    go.unlink()


async def test_a_home_that_is_full(slurm: Slurm, helper: Helper, small_home: None) -> None:
    """The start says so, and what was begun is removed."""
    launch_id = new_id()
    with pytest.raises(StartFailed) as caught:
        await helper.as_user.submit(
            helper.account(), hub_id="lab", launch_id=launch_id, script=SCRIPT, files={"a": "b" * 500_000}, within_s=60
        )
    assert (caught.value.reason, caught.value.permanent) == ("home", True)
    assert "No space left on device" in caught.value.message
    assert not folder_of(helper, launch_id).exists()
    assert helper.jobs(launch_id) == []


@pytest.fixture
def small_home(slurm: Slurm) -> Iterator[None]:
    """On the login host ada's home has 64 KiB."""
    home = str(slurm.homes / "ada")
    options = f"size=64k,uid={PEOPLE['ada']},gid={LAB_GID},mode=700"
    slurm.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", home)
    try:
        yield
    finally:
        slurm.run("umount", home)


async def test_sudo_refuses(slurm: Slurm, helper: Helper) -> None:
    rule = slurm.world.etc / "sudoers.d" / "portal"
    rule.rename(rule.with_name("portal.away"))
    try:
        with pytest.raises(BackendUnavailable) as caught:
            await submit(helper, new_id())
    finally:
        os.rename(rule.with_name("portal.away"), rule)
    assert caught.value.reason == "helper"
    assert "password is required" in caught.value.log_message


async def test_the_helper_is_not_installed(helper: Helper) -> None:
    helper.path.rename(helper.path.with_suffix(".away"))
    try:
        with pytest.raises(BackendUnavailable) as caught:
            await submit(helper, new_id())
    finally:
        helper.path.with_suffix(".away").rename(helper.path)
    assert caught.value.reason == "helper"
