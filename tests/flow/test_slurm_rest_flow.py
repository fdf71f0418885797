"""A whole hub whose jobs are submitted by slurmrestd, with TLS to its servers: the claim code over its own route."""

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

from daas_hub.core.models import LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.audit import AuditRow
from tests.flow.slurm_site import SlurmSite
from tests.flow.test_slurm_tls import names_in
from tests.servers.kernels import ServerApi
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
"""
THIEF = "f" * 64
REFUSALS = 20
"""Of one sender that are audited (``wiring/claim.py``)."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    more = BY_REST.format(url=slurm_any.rest_url, signer=Signer(slurm_any).argv)
    made = SlurmSite(slurm_any, more=more, names=True)
    try:
        await made.start()
        await made.sign_in("ada")
        yield made
    finally:
        await made.stop()


def claim(site: SlurmSite, body: Any, method: str = "POST") -> tuple[int, Any]:
    """Status and answer of one claim, by the address that jobs have. Nobody is signed in. Blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", site.hub.port, timeout=30)
    try:
        text = body if isinstance(body, str) else json.dumps(body)
        connection.request(method, "/hub/api/daas/claim", text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said.startswith(b"{") else said
    finally:
        connection.close()


def audited(site: SlurmSite) -> list[AuditRow]:
    """Refused claims, oldest first."""
    ledger = site.ledger()
    try:
        return [row for row in reversed(ledger.audit.list(limit=500)) if row.action == "claim_refused"]
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
