"""The SLURM backend that submits by slurmrestd, on real clusters of both versions: start, stop, look, and once only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.slurm_submit import UNTESTED
from daas_hub.core.errors import ConfigError, NotAllowed, StartFailed
from daas_hub.core.models import Handle, Life
from daas_hub.core.naming import new_id
from daas_hub.core.slurm_jobs import Job
from daas_hub.core.slurm_launches import Ref
from tests.contracts.backend import SECRET, BackendContract, Saved, ours
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_place import SlurmPlace, slurm_place
from tests.servers.slurm_signer import Signer
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def place(slurm_any: Slurm) -> AsyncIterator[SlurmPlace]:
    signer = Signer(slurm_any)
    traits: dict[str, Any] = {"submit_by": "rest", "rest_url": slurm_any.rest_url, "signer": signer.argv}
    # The helper is not there at all.
    async with slurm_place(slurm_any, **traits, helper=["/nonexistent"], site_tokens_margin_s=3) as place:
        yield place


@pytest.fixture
def saved() -> Saved:
    return Saved()


def folder_of(handle: Handle) -> Path:
    return Path(handle["home"]) / ".daas" / str(handle["launch_id"])


def script_of(place: SlurmPlace, handle: Handle, *, user: str = "") -> str:
    """The job's script as the controller keeps it."""
    done = place.cluster.ask("scontrol", "write", "batch_script", str(handle["job_id"]), "-", user=user)
    return done.stdout


def code_in(script: str) -> str:
    (code,) = re.findall(r"'code': '([A-Za-z0-9_-]{43})'", script)
    return str(code)


async def refusal(place: SlurmPlace, handle: Handle, code: str, by: str = "thief") -> str:
    with pytest.raises(NotAllowed) as refused:
        await place.backend.redeem(handle, code, by)
    return refused.value.reason


class Contract(BackendContract):
    """Taken from as needed: what depends on how a job is submitted and cancelled. The whole runs over the helper."""

    stop_within_s = 30.0
    tokens_within_s = 30.0


CONTRACT = Contract()


async def test_a_server_of_hers_whose_secrets_nobody_else_sees(place: SlurmPlace, saved: Saved) -> None:
    """Her uid, files and environment; no secret in the script, which the cluster's administrators can read; a code that
    counts once; another hub finds and stops it, and nothing stays but its log."""
    await CONTRACT.test_a_server_runs_as_the_account_and_answers(place, saved)
    handle, folder = saved.last, folder_of(saved.last)
    assert [reason for _, reason in place.claims] == [""]
    for path, mode in ((folder.parent, 0o700), (folder, 0o700), *((path, 0o600) for path in folder.iterdir())):
        about = path.lstat()
        assert (about.st_uid, stat.S_IMODE(about.st_mode)) == (handle["uid"], mode), path
    assert {"launch.py", "launch.json", "log"} <= {path.name for path in folder.iterdir()}
    script = script_of(place, handle)
    code = code_in(script)
    seen = await place.seen_by_others(handle)
    assert SECRET not in script + json.dumps(handle) + seen
    assert code not in json.dumps(handle) + seen
    assert await refusal(place, handle, code) == "used"
    assert await refusal(place, handle, "x" * 43) == "wrong_code"
    # The same process may ask again: an answer may be lost.
    claimer = place.claims[0][0]["claimer"]
    given = await place.another().redeem(handle, code, claimer)
    assert SECRET in given.files["launch.json"]
    assert await place.backend.log_tail(handle) is None
    # Nor does anybody else get, or tell, what the same process may: neither by the code nor by its digest.
    assert dict((await place.another().fetched_tokens(handle, claimer)).files) == {}
    for by in (
        "thief",
        code,
        "",
        json.loads((place.root / "records").glob("*/*/claim.json").__next__().read_text())["by"],
    ):
        for asked in (place.backend.fetched_tokens(handle, by), place.backend.told_log(handle, by, "forged")):
            with pytest.raises(NotAllowed) as refused:
                await asked
            assert refused.value.reason == "wrong_code"
    with contextlib.ExitStack() as fault:
        # Who does not know the job yet, and cannot ask: the secret counts, and is not waited with until it is over.
        await asyncio.to_thread(fault.enter_context, place.cluster.silent())
        try:
            blind = place.another()
            assert dict((await blind.fetched_tokens(handle, claimer)).files) == {}
            with pytest.raises(NotAllowed):
                await blind.fetched_tokens(handle, "thief")
        finally:
            await asyncio.to_thread(fault.close)
    other = place.another()
    (found,) = [one for one in await other.find() if one.launch_id == handle["launch_id"]]
    assert (await other.inspect(found.handle)).life is Life.RUNNING
    assert (await other.stop(found.handle, within_s=30)).life is Life.ENDED
    assert await refusal(place, handle, code) == "not_running"
    with pytest.raises(NotAllowed) as refused:
        await other.fetched_tokens(handle, claimer)
    assert refused.value.reason == "not_running"
    # It has sent the end of its log when it was told to end.
    assert await other.log_tail(handle) == (folder / "log").read_text().rstrip()
    await until(lambda: only_the_log(folder), within_s=30, what="its files are gone")
    await other.cleanup(found.handle)
    assert await ours(other, handle["launch_id"]) == []
    assert await refusal(place, handle, code) == "wrong_code"


async def only_the_log(folder: Path) -> bool:
    return [path.name for path in folder.iterdir()] == ["log"]


async def test_a_job_that_waits_gets_nothing_and_is_one_job(
    place: SlurmPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads its script while it waits has no use of it. A start that is repeated meanwhile is the same job."""
    hog = await asyncio.to_thread(place.cluster.submit, "sleep 600", "--partition=gpu", "--gres=gpu:2", user="bob")
    await asyncio.to_thread(place.cluster.in_state, hog, "RUNNING")
    spec = place.spec(new_id(), override={"slurm": {"partition": "gpu", "gres": "gpu:2"}})
    starts = [asyncio.create_task(place.backend.start(spec, checkpoint)) for checkpoint in (saved, Saved())]
    await until(lambda: has_job(saved), within_s=60, what="its job is submitted")
    code = code_in(script_of(place, saved.last))
    assert await refusal(place, saved.last, code) == "not_running"
    # Another launch's code is as wrong as none, and so is its job.
    assert await refusal(place, {**saved.last, "launch_id": new_id()}, code) == "wrong_code"
    assert await refusal(place, {**saved.last, "job_id": int(hog)}, code) == "no_job"
    await until(lambda: says_nothing_is_known(place, saved, monkeypatch), within_s=30, what="its page says so")
    await asyncio.to_thread(place.cluster.run, "scancel", hog)
    first, second = await asyncio.gather(*starts)
    assert first == second
    assert await place.backend.start(spec, Saved()) == first
    assert len(await ours(place.backend, spec.launch_id)) == 1
    assert [reason for _, reason in place.claims] == [""]
    assert (await place.get(first, spec, "whoami"))["resuid"] == [spec.account.uid] * 3


async def says_nothing_is_known(place: SlurmPlace, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> bool:
    """What is said of a job that the scheduler has not planned; of one that it has, squeue says enough."""
    ends = place.backend._tools.ends
    look = ends.job

    async def unplanned(ref: Ref, *, max_age_s: float) -> Job | None:
        job = await look(ref, max_age_s=max_age_s)
        return None if job is None else replace(job, expected_at=None, priority=1)

    with monkeypatch.context() as patch:
        patch.setattr(ends, "job", unplanned)
        event = await place.backend.estimate(saved.last)
    return event is not None and (event.message, event.as_of) == (UNTESTED, None)


async def has_job(saved: Saved) -> bool:
    return bool(saved.handles) and saved.last["job_id"] is not None


async def test_a_requeued_job_claims_again(place: SlurmPlace, saved: Saved) -> None:
    """Each run has the code for itself, once: the second one gets the files, and an observer of either nothing."""
    spec = place.spec(new_id())
    await place.backend.start(spec, saved)
    code, job = code_in(script_of(place, saved.last)), str(saved.last["job_id"])
    run = place.cluster.run
    await asyncio.to_thread(run, "scontrol", "requeue", job)
    await asyncio.to_thread(place.cluster.in_state, job, "PENDING", "REQUEUED")
    assert await refusal(place, saved.last, code, place.claims[0][0]["claimer"]) == "not_running"
    # Started while its first run still ends, it would be taken for over with that one.
    await until(lambda: only_the_log(folder_of(saved.last)), within_s=60, what="its first run is over")
    await until(lambda: elsewhere(place, job), within_s=60, what="it runs again", every_s=0.5)
    await until(lambda: reported(place, 2), within_s=60, what="it has reported again")
    assert [reason for _, reason in place.claims] == ["", ""]
    assert await refusal(place, saved.last, code) == "used"
    assert await refusal(place, saved.last, code, place.claims[0][0]["claimer"]) == "used"
    url = await place.backend.resume(saved.last)
    assert (await place.get(url, spec, "whoami"))["environment"]["JUPYTERHUB_API_TOKEN"] == SECRET


async def elsewhere(place: SlurmPlace, job: str) -> bool:
    """Whether a requeued job runs, on the other node and without the two minutes that SLURM lets it wait."""
    changes = (f"jobid={job}", "partition=any", "nodelist=gpu1", "starttime=now")
    if place.cluster.job(job)["job_state"] != "RUNNING":
        await asyncio.to_thread(place.cluster.ask, "scontrol", "update", *changes)
    return bool(place.cluster.job(job)["job_state"] == "RUNNING")


async def reported(place: SlurmPlace, times: int) -> bool:
    return len(place.reports) == times


async def test_a_start_that_fails_says_its_last_lines_or_where_they_are(place: SlurmPlace, saved: Saved) -> None:
    """The job sends them itself, before anybody can see that it has ended; where it cannot, the message says where."""
    with pytest.raises(StartFailed) as failure:
        await CONTRACT.begin(place, saved, exit=3, print=f"bad luck, {SECRET}")
    assert "bad luck, …" in failure.value.log_message
    assert SECRET not in failure.value.log_message
    assert "bad luck" in (await place.another().log_tail(saved.last) or "")
    log = folder_of(saved.last) / "log"
    assert str(log) not in failure.value.message
    place.deaf, saved = True, Saved()
    with pytest.raises(StartFailed) as failure:
        await CONTRACT.begin(place, saved, exit=3, print="bad luck")
    log = folder_of(saved.last) / "log"
    node = place.cluster.job(str(saved.last["job_id"]))["nodes"]
    assert failure.value.message.endswith(f"What it printed is in {log} (as node {node} sees it).")
    assert "bad luck" in log.read_text()
    assert "did not take the end of this log" in log.read_text()
    place.deaf = False
    await CONTRACT.test_a_cancelled_start_is_stopped_by_its_last_handle(place, saved)


async def test_its_own_process_fetches_site_tokens(place: SlurmPlace, saved: Saved) -> None:
    await CONTRACT.test_site_tokens_are_replaced_as_one_set_that_others_do_not_see(place, saved)


def test_secrets_go_nowhere_unencrypted(slurm: Slurm) -> None:
    from daas_hub.backends.slurm import SlurmBackend

    for url in ("", "http://slurm.example.org:6820", "ftp://localhost/"):
        with pytest.raises(ConfigError, match=r"SlurmBackend\.rest_url"):
            SlurmBackend(submit_by="rest", rest_url=url)


async def test_a_hub_that_jobs_reach_by_http_submits_nothing(place: SlurmPlace, saved: Saved) -> None:
    """JupyterHub's own default, its loopback, would be the node's own for a job: anybody's there."""
    place.backend.claim_url = ""
    for url in ("http://hub.example.org:8081", "http://127.0.0.1:8081"):
        spec = place.spec(new_id())
        told = {**spec.environment, "JUPYTERHUB_API_URL": f"{url}/hub/api"}
        with pytest.raises(StartFailed, match="not safe") as refused:
            await place.backend.start(replace(spec, environment=told), saved)
        assert "SlurmBackend.claim_url" in refused.value.log_message
        assert saved.last["job_id"] is None
