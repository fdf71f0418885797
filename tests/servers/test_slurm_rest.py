"""slurmrestd and the signer apart, on real clusters of both versions: whose jobs, which fields, whom it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.request
from dataclasses import replace
from typing import Any

import pytest

from daas_hub.clients.slurm_rest import SlurmRest
from daas_hub.core.errors import AccountRefused, BackendUnavailable, StartFailed
from daas_hub.core.slurm_rest import OLD, VERSIONS, RestJob
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_helper import HUB, Helper
from tests.servers.slurm_signer import SIGNER_UID, Signer

pytestmark = pytest.mark.timeout(120)
LINES = """#!/bin/bash
#SBATCH --partition=gpu --account=lab --qos=normal --job-name=notebook
#SBATCH --time=11 --mem=500 -c 2 --ntasks=1 --nodes=1 --gres=gpu:1
#SBATCH --output=/forged
"""
PLAIN = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def signer(slurm_any: Slurm) -> Signer:
    return Signer(slurm_any)


def job(helper: Helper, text: str, user: str = "ada") -> RestJob:
    return RestJob(f"{LINES}{text}\n", "daas-hub", "daas:lab:rest", str(helper.slurm.homes / user), PLAIN)


async def test_a_job_is_submitted_and_cancelled_as_its_account(slurm_any: Slurm, signer: Signer) -> None:
    """By the version that this slurmrestd offers, with every field of the script's lines; ended twice is no error."""
    helper, rest = Helper(slurm_any), signer.rest
    ada, bob = helper.account(), helper.account("bob")
    assert await rest.version(ada) == (OLD if slurm_any.version == (22, 5) else VERSIONS[0])
    told = await asyncio.to_thread(openapi, slurm_any)
    for version in VERSIONS:
        known = properties(told, version)
        if known:
            assert set(job(helper, "").body(version)["job"]) - known == set(), version
    script = "id -u >rest-ran; sleep 300"
    job_id = await rest.submit(ada, job(helper, script), within_s=60)
    await asyncio.to_thread(slurm_any.in_state, str(job_id), "RUNNING")
    shown = slurm_any.run("scontrol", "--oneliner", "show", "job", str(job_id))
    for part in (
        "UserId=ada(20001)", "Partition=gpu", "Account=lab", "QOS=normal", "JobName=notebook", "TimeLimit=00:11:00",
        "MinMemoryNode=500M", "CPUs/Task=2", "NumNodes=1", "gpu:1", "Comment=daas:lab:rest",
        "StdOut=/dev/null",
    ):  # fmt: skip
        assert part in shown, shown
    with pytest.raises(BackendUnavailable):
        await rest.cancel(bob, job_id, within_s=30)
    assert slurm_any.job(str(job_id))["job_state"] == "RUNNING"
    await rest.cancel(ada, job_id, within_s=30)
    await asyncio.to_thread(slurm_any.in_state, str(job_id), "CANCELLED")
    assert (slurm_any.homes / "ada" / "rest-ran").read_text() == f"{ada.uid}\n"
    await rest.cancel(ada, job_id, within_s=30)
    await rest.cancel(ada, 4_000_000, within_s=30)
    await rest.close()


def openapi(slurm: Slurm) -> Any:
    headers = {"X-SLURM-USER-NAME": "ada", "X-SLURM-USER-TOKEN": slurm.token("ada")}
    with urllib.request.urlopen(urllib.request.Request(f"{slurm.rest_url}/openapi/v3", headers=headers)) as answer:
        return json.load(answer)


def properties(told: Any, version: str) -> set[str]:
    """The fields of a job in one version, by the server's own document; none where it has no such version."""
    schemas = told["components"]["schemas"]
    name = "job_properties" if version == OLD else "job_desc_msg"
    return set(schemas.get(f"{version}_{name}", {}).get("properties", {}))


async def test_what_slurm_refuses_and_what_cannot_be_told(slurm_any: Slurm, signer: Signer) -> None:
    helper, ada = Helper(slurm_any), Helper(slurm_any).account()
    rest = signer.rest
    nowhere = replace(job(helper, "true"), script="#!/bin/sh\n#SBATCH --partition=nowhere\ntrue\n")
    with pytest.raises(StartFailed, match="Invalid partition name") as failed:
        await rest.submit(ada, nowhere, within_s=60)
    assert failed.value.permanent
    with pytest.raises(StartFailed) as failed:
        await rest.submit(ada, replace(nowhere, script="#!/bin/sh\n#SBATCH --switches=1\n"), within_s=60)
    assert "--switches" in failed.value.log_message
    # A token of another key is no word about ada. 22.05 hangs up on it: the job may be there for all we know.
    wrong = ("unsure", "reset", "not_cancelled") if slurm_any.version == (22, 5) else ("token", "munge")
    other = slurm_any.root / "other.key"
    other.touch(mode=0o600)
    other.write_bytes(b"k" * 32)
    os.chown(other, SIGNER_UID, 0)
    signer.allow(key=str(other))
    for ask in (rest.submit(ada, job(helper, "true"), within_s=60), rest.cancel(ada, 1, within_s=60)):
        with pytest.raises(BackendUnavailable) as away:
            await ask
        assert away.value.reason in wrong, away.value.log_message
    signer.allow()
    await rest.close()
    nobody = SlurmRest("http://127.0.0.1:9", rest._signer)
    with pytest.raises(BackendUnavailable) as away:
        await nobody.submit(ada, job(helper, "true"), within_s=10)
    assert away.value.reason == "refused"


async def test_an_outage_is_no_refusal(slurm_any: Slurm, signer: Signer) -> None:
    helper, rest = Helper(slurm_any), signer.rest
    await rest.version(helper.account())
    with contextlib.ExitStack() as fault:
        await asyncio.to_thread(fault.enter_context, slurm_any.refused())
        try:
            with pytest.raises(BackendUnavailable) as away:
                await rest.submit(helper.account(), job(helper, "true"), within_s=60)
        finally:
            await asyncio.to_thread(fault.close)
    assert away.value.reason == "refused", away.value.log_message
    await rest.close()


def test_whom_the_signer_refuses(slurm_any: Slurm, signer: Signer) -> None:
    """Without looking at the key: who is root, low, denied, another uid, unknown; and a caller that is not as meant."""
    with (slurm_any.world.etc / "passwd").open("a") as passwd:
        passwd.write("low:x:19999:30001::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\nevil:x:20004:30001::/:/bin/sh\n")
        passwd.write("wheel1:x:20050:0::/:/bin/sh\n")
    for words, said in (
        (("root", "0"), "0 is root's"),
        (("toor", "0"), "0 is root's"),
        (("wheel1", "20050"), "0 is root's"),
        (("low", "19999"), "allows none below 20000"),
        (("ada", "20002"), "ada is uid 20001 on this host, not uid 20002"),
        (("eve", "20004"), "denied"),
        (("evil", "20004"), "denied"),
        (("nobody-knows", "20001"), "unknown"),
    ):
        code, answer = signer.call(*words)
        assert (code, answer["kind"]) == (1, "account"), answer
        assert said in answer["error"]
    for words in ((), ("ada",), ("ada", "20001", "more"), ("-ada", "20001"), ("ada", "020001"), ("ada\n", "20001")):
        assert signer.call(*words)[1]["kind"] == "helper", words


def test_what_the_signer_needs(slurm_any: Slurm, signer: Signer) -> None:
    """A key that others can read, settings that others can write, a key of no length: it signs nothing."""
    assert signer.call("ada", "20001")[0] == 0
    signer.key.chmod(0o444)
    code, answer = signer.call("ada", "20001")
    signer.key.chmod(0o400)
    assert (code, answer["kind"]) == (1, "helper")
    assert "must be a file of" in answer["error"]
    signer.settings.chmod(0o666)
    assert signer.call("ada", "20001")[1]["kind"] == "helper"
    signer.allow(life_s=3600)
    assert signer.call("ada", "20001")[1]["kind"] == "helper"
    signer.allow(key="/dev/null")
    assert signer.call("ada", "20001")[1]["kind"] == "helper"
    signer.allow()
    # The hub itself cannot read the key, and cannot become the signer for anything else.
    assert slurm_any.ask("cat", str(signer.key), user=HUB).returncode != 0
    assert slurm_any.ask("sudo", "-n", "-u", "signer", "/bin/cat", str(signer.key), user=HUB).returncode != 0


async def test_a_refused_account_is_told_as_such(signer: Signer) -> None:
    eve = Helper(signer.slurm).account("eve")
    with pytest.raises(AccountRefused, match="denied"):
        await signer.rest.cancel(eve, 1, within_s=30)
