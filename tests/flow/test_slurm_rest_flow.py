"""A whole hub whose jobs are submitted by slurmrestd, with TLS to its servers: the claim code over its own route.

And what the hub can neither put into a home nor read there: fresh tokens, and the end of a log.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from daas_hub.core.models import ACTIVE, LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.audit import AuditRow
from daas_hub.db.ledger import LaunchRow
from tests.flow.slurm_site import SlurmSite
from tests.flow.test_site_tokens import Place, add_tokens
from tests.flow.test_slurm_tls import names_in
from tests.servers.evil_provider import EvilProvider
from tests.servers.kernels import ServerApi
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.servers.slurm_signer import Signer
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("root", "slapd", "node"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]
# With internal_ssl a job has no certificate before its claim: it asks where browsers do.
BY_REST = """
c.SlurmBackend.submit_by = "rest"
c.SlurmBackend.rest_url = {url!r}
c.SlurmBackend.signer = {signer!r}
c.SlurmBackend.claim_url = c.JupyterHub.bind_url + "/hub/api/daas/claim"
c.SlurmBackend.site_tokens_margin_s = {margin_s}
c.Reconciler.lease_s = 3
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0.5}}
c.DaasSpawner.profile_list.append({{
    "display_name": "Fails", "slug": "fails", "resources": {{"cpu_limit": 0.5, "mem_limit": "512M"}},
    "kubespawner_override": {{"cmd": ["sh", "-c", "echo bad luck; exit 3"]}},
}})
"""
MARGIN_S, LASTS_S = 4, 14
THIEF = "f" * 64
REFUSALS = 20
"""Of one sender that are audited (``wiring/claim.py``)."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    provider = await EvilProvider(exchanged_last_s=LASTS_S).start()
    more = BY_REST.format(url=slurm_any.rest_url, signer=Signer(slurm_any).argv, margin_s=MARGIN_S)
    made = SlurmSite(slurm_any, more=more, names=True)
    add_tokens(made, provider)
    try:
        await made.start()
        assert await Place(made, provider).come() == "/hub/home"
        yield made
    finally:
        await made.stop()
        await provider.stop()


def claim(site: SlurmSite, body: Any, method: str = "POST", more: str = "") -> tuple[int, Any]:
    """Status and answer of one claim, by the address that jobs have. Nobody is signed in. Blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", site.hub.port, timeout=30)
    try:
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request(method, f"/hub/api/daas/claim{more}", text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said.startswith(b"{") else said
    finally:
        connection.close()


def audited(site: SlurmSite, action: str = "claim_refused") -> list[AuditRow]:
    """What was written of an action, oldest first; by default refused claims."""
    ledger = site.ledger()
    try:
        return [row for row in reversed(ledger.audit.list(limit=500)) if row.action == action]
    finally:
        ledger.close()


def with_code(site: SlurmSite, job: int, launch_id: str) -> dict[str, str]:
    """A claim by what a job's script says."""
    script = site.cluster.run("scontrol", "write", "batch_script", str(job), "-")
    (code,) = re.findall(r"'code': '([A-Za-z0-9_-]{43})'", script)
    return {"launch": launch_id, "code": code, "claimer": THIEF}


async def test_a_server_by_rest_and_a_code_that_counts_once(site: SlurmSite) -> None:
    """Her uid, a kernel, a certificate by the claim. Afterwards her code is good for nothing, which is audited."""
    ada = site.person("ada")
    status, said = await site.hub.start_server("ada", options={"profile": "small"})
    assert status in (201, 202), said
    (row,) = [row for row in site.launches() if row.state is LaunchState.RUNNING]
    assert row.handle is not None
    assert row.handle["tls"] is True
    job = site.cluster.job(str(row.handle["job_id"]))
    assert (job["user_name"], job["comment"]) == ("ada", f"daas:{site.hub_id}:{row.id}")
    kernels = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    kernel = await kernels.new_kernel()
    said = await kernels.run(kernel, "import os; print(os.getuid(), os.getgid(), os.environ['FROM_PROFILE'])")
    assert said == f"{ada.uid} {ada.gid} yes\n"
    folder = Path(site.homes, "ada", ".daas", row.id)
    # Made when it was known where the job runs, for that node alone.
    assert names_in(str(folder / "certfile")) == f"DNS:{row.id}.{row.handle['node']}.daas.internal"
    body = await asyncio.to_thread(with_code, site, row.handle["job_id"], row.id)
    for given, reason in (
        (body, "used"),
        ({**body, "code": "x" * 43}, "wrong_code"),
        ({**body, "launch": new_id()}, "wrong_code"),
    ):
        status, said = await asyncio.to_thread(claim, site, given)
        assert (status, said["reason"]) == (403, reason)
    rows = await asyncio.to_thread(audited, site)
    assert [(one.who, one.subject, (one.new or {})["reason"]) for one in rows] == [
        ("claim", f"launch:{row.id}", "used"),
        ("claim", f"launch:{row.id}", "wrong_code"),
        ("claim", "launch:unknown", "wrong_code"),
    ]
    assert all((one.new or {})["address"] == "127.0.0.1" for one in rows)
    assert body["code"] not in str(rows) + site.hub.log_text()
    for wrong, status in (
        ("", 400),
        ("[]", 400),
        ({**body, "more": 1}, 400),
        ({**body, "claimer": "short"}, 400),
        ({**body, "launch": "../x"}, 400),
        ({**body, "code": "x" * 600}, 413),
    ):
        assert (await asyncio.to_thread(claim, site, wrong))[0] == status, wrong
    assert (await asyncio.to_thread(claim, site, "", "GET"))[0] == 405
    await site.hub.stop_server("users/ada/server")
    await until(lambda: over(site), within_s=60, what="the launch ended")
    status, said = await asyncio.to_thread(claim, site, body)
    assert (status, said["reason"]) == (403, "ended")
    assert len(await asyncio.to_thread(audited, site)) == len(rows) + 1
    # However many come, one sender fills the audit no further.
    answers = [(await asyncio.to_thread(claim, site, body))[0] for _ in range(REFUSALS)]
    assert answers == [403] * (REFUSALS - len(rows) - 1) + [429] * (len(rows) + 1)
    assert len(await asyncio.to_thread(audited, site)) == REFUSALS
    # And holds nobody up.
    status, said = await site.hub.start_server("ada", options={"profile": "small"})
    assert status in (201, 202), said
    await site.hub.stop_server("users/ada/server")
    await until(lambda: over(site), within_s=60, what="the launch ended")


async def over(site: SlurmSite) -> bool:
    launches = await asyncio.to_thread(site.launches)
    return all(row.state is LaunchState.ENDED for row in launches)


def waiting(site: SlurmSite) -> LaunchRow | None:
    """The launch whose job is submitted."""
    rows = [row for row in site.launches() if row.state is LaunchState.SUBMITTED]
    return next((row for row in rows if (row.handle or {}).get("job_id") is not None), None)


@newer_when_long
async def test_a_job_waits_over_the_death_of_the_hub_and_its_server_has_fresh_tokens(site: SlurmSite) -> None:
    """The same job in the same place of the line; its code is good when it runs, at a hub that did not submit it."""
    ada, cluster = site.person("ada"), site.cluster
    hog = cluster.submit("sleep 900", "--partition=cpu", "--cpus-per-task=8", "--mem=1000M", "--time=20", user="bob")
    try:
        await asyncio.to_thread(cluster.in_state, hog, "RUNNING")
        status, said = await site.hub.api("POST", "users/ada/server", {"profile": "small", "placement": "slurm:cpu"})
        assert status == 202, said
        row = await until(lambda: waiting(site), within_s=60, what="her job is submitted")
        job = str(row.handle["job_id"])
        before = cluster.job(job)
        site.hub.signal(9)
        await site.hub.wait_gone()
        await site.hub.start()
        after = cluster.job(job)
        assert after["job_state"] == "PENDING"
        assert [after[key] for key in ("submit_time", "priority")] == [
            before[key] for key in ("submit_time", "priority")
        ]
        # While it waits its code is good for nothing, whichever hub is asked.
        body = await asyncio.to_thread(with_code, site, int(job), row.id)
        status, said = await asyncio.to_thread(claim, site, body)
        assert (status, said.get("reason")) in ((403, "not_running"), (429, None))
    finally:
        cluster.run("scancel", hog)
    await until(lambda: site.hub._ready("ada", ""), within_s=120, what="her server is there", every_s=0.2)
    (same,) = [one for one in site.launches() if one.state in ACTIVE]
    assert (same.id, str((same.handle or {})["job_id"])) == (row.id, job)
    kernels = ServerApi(f"{site.hub.url}/user/ada/", site.hub.token)
    kernel = await kernels.new_kernel()

    async def other_than(*texts: str) -> str:
        text = (await kernels.run(kernel, READS)).strip()
        return "" if text in texts else text

    first = await until(lambda: other_than(""), within_s=60, what="her token", every_s=0.5)
    mode, uid, token = first.split()
    assert (mode, uid) == ("600", str(ada.uid))
    second = await until(lambda: other_than("", first), within_s=60, what="a renewed one", every_s=0.5)
    assert second.split()[2] != token
    rows = await asyncio.to_thread(audited, site, "site_tokens_fetched")
    assert [(one.who, one.subject, (one.new or {})["address"]) for one in rows if one.subject.endswith(row.id)] == [
        ("claim", f"launch:{row.id}", "127.0.0.1")
    ]
    folder = Path(site.homes, "ada", ".daas", row.id)
    secret = json.loads((folder / "claimed.json").read_text())
    mine = {"launch": row.id, "claimer": secret["claimer"]}
    # With her secret it is she; by the code that the script shows nobody is.
    status, said = await asyncio.to_thread(claim, site, mine, "POST", "/tokens")
    assert status == 200
    assert said["files"]["storage"]
    for more, path in (({}, "/tokens"), ({"log": "forged"}, "/log")):
        status, _ = await asyncio.to_thread(claim, site, {**mine, "claimer": THIEF, **more}, "POST", path)
        assert status in (403, 429)
        assert (await asyncio.to_thread(claim, site, {**mine, "more": "x", **more}, "POST", path))[0] == 400
    assert (await asyncio.to_thread(claim, site, {**mine, "log": "x" * 17_000}, "POST", "/log"))[0] == 400
    assert (await asyncio.to_thread(claim, site, {**mine, "log": "x" * 40_000}, "POST", "/log"))[0] == 413
    assert secret["claimer"] not in site.hub.log_text()
    await site.hub.stop_server("users/ada/server")
    await until(lambda: over(site), within_s=60, what="the launch ended")
    assert (await asyncio.to_thread(claim, site, mine, "POST", "/tokens"))[0] in (403, 429)


@newer_when_long
async def test_the_log_of_a_start_that_failed_is_kept(site: SlurmSite) -> None:
    """Sent by the job, since the hub cannot read her home; it is there when the launch has ended."""
    status, said = await site.hub.api("POST", "users/ada/server", {"profile": "fails"})
    assert status in (202, 500), said
    await until(lambda: over(site), within_s=60, what="the launch ended")
    row = site.launches()[0]
    assert "exit status 3" in row.reason
    kept = await until(lambda: kept_log(site, row), within_s=30, what="its log is kept")
    assert "bad luck" in kept


def kept_log(site: SlurmSite, row: LaunchRow) -> str | None:
    ledger = site.ledger()
    try:
        return ledger.kept(row.id).log
    finally:
        ledger.close()


READS = """
import os, pathlib, stat
path = pathlib.Path(os.environ["DAAS_SITE_TOKENS"], "storage")
try:
    text, about = path.read_text(), path.stat()
    print(f"{stat.S_IMODE(about.st_mode):o} {about.st_uid} {text}")
except FileNotFoundError:
    pass
"""
