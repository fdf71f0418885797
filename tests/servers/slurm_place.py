"""The SLURM backend for tests: one real cluster, one person, and a route that takes the servers' reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daas_hub.backends.slurm import SlurmBackend
from daas_hub.core.errors import BackendUnavailable, DaasError
from daas_hub.core.models import Account, AccountGroup, Handle, LaunchSpec, Resources
from daas_hub.core.naming import new_id
from tests.contracts.backend import SECRET, Place
from tests.servers.no_blocking import no_blocking
from tests.servers.reachable_python import reachable_python
from tests.servers.slurm.plain import site
from tests.servers.slurm.rig import LAB, LAB_GID, PEOPLE, Slurm
from tests.servers.slurm.settings import NODES
from tests.servers.slurm_helper import Helper
from tests.servers.tiny_server import program

ROUTE = "/hub/api/daas/report"
CLAIM = "/hub/api/daas/claim"
REPORTED = 200


class SlurmPlace(Place):
    """A cluster with one backend, and ada."""

    def __init__(self, cluster: Slurm, root: Path, *, person: str = "ada", **traits: Any) -> None:
        self.cluster, self.root = cluster, root
        self.traits: dict[str, Any] = {
            "runtime_dir": str(root / "records"),
            "hub_id": f"test-{root.name.lower().replace('_', '-')}",
            "helper": Helper(cluster).argv,
            "command_prefix": cluster.login(),
            "node_addresses": {node.name: cluster.world.addresses[node.name] for node in NODES},
            "poll_interval_s": 0.5,
            "waiting_interval_s": 0.3,
            **traits,
        }
        self.backends: list[SlurmBackend] = []
        self.backend: SlurmBackend = self.another()
        self.account = Account(
            id=new_id(),
            name=person,
            uid=PEOPLE[person],
            gid=LAB_GID,
            groups=(AccountGroup(LAB, LAB_GID),),
            home=str(cluster.homes / person),
            shell="/bin/bash",
            source="test",
            fetched_at=datetime.now(UTC),
            display_name="Ada: the\nFirst",
        )
        self.reports: list[tuple[str, int, int]] = []
        """What servers have reported: launch, port, and what they were answered."""
        self.claims: list[tuple[dict[str, str], str]] = []
        """What jobs have claimed, and why they were refused, if they were."""
        self.deaf = False
        """Whether jobs that have claimed are not answered any more."""
        self.server: asyncio.Server | None = None

    def another(self) -> SlurmBackend:
        backend = SlurmBackend(config=site(self.cluster), **self.traits)
        self.backends.append(backend)
        return backend

    @property
    def api_url(self) -> str:
        """Where the launches' reports go; the hub's own route is tried with a whole hub elsewhere."""
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def spec(
        self,
        launch_id: str,
        *,
        resources: Resources | None = None,
        cmd: tuple[str, ...] | None = None,
        override: dict[str, Any] | None = None,
        **options: Any,
    ) -> LaunchSpec:
        return LaunchSpec(
            launch_id=launch_id,
            hub_id=self.traits["hub_id"],
            account=self.account,
            user_name=self.account.name,
            server_name="",
            resources=resources or Resources(cpu_limit=1.0, mem_limit_bytes=512 * 2**20),
            cmd=cmd or program(reachable_python(), **options),
            environment={"FROM_THE_PROFILE": "yes", "JUPYTERHUB_API_URL": f"{self.api_url}/{launch_id}/hub/api"},
            secrets={"JUPYTERHUB_API_TOKEN": SECRET},
            mounts=(),
            service_prefix="/user/ada/",
            override=override or {},
        )

    async def end(self, handle: Handle) -> None:
        url = f"http://{self.traits['node_addresses'][handle['node']]}:{handle['port']}{handle['service_prefix']}end"
        with contextlib.suppress(OSError):
            await asyncio.to_thread(_fetch, url)

    async def seen_by_others(self, handle: Handle) -> str:
        """All that bob can see: the job as SLURM tells it, command lines, variables, the launch's files."""
        job = str(handle["job_id"])
        script = (
            f"scontrol show job {job}; squeue --jobs={job} --format=%all; scontrol write batch_script {job} -;"
            f"sacct --jobs={job} --long --parsable2; cat /proc/[0-9]*/cmdline; cat /proc/[0-9]*/environ;"
            f"find {handle['home']}/.daas {handle['home']} -type f -exec cat {{}} +"
        )
        done = await asyncio.to_thread(self.cluster.ask, "sh", "-c", script, user="bob")
        return done.stdout + done.stderr

    # ------------------------------------------------------------ reports

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One report, as the hub's route takes it: with the server's own token, once, when the job is known."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(
                next(line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-l"))
            )
            said = json.loads(await reader.readexactly(length))
            path = head.split(" ")[1]
            if CLAIM in path:
                status, answer = await (self.hand_out(said) if path.endswith(CLAIM) else self.go_on(path, said))
                writer.write(f"HTTP/1.1 {status} said\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()
                return
            launch_id = path.removesuffix(ROUTE).strip("/")
            assert path.endswith(ROUTE), path
            assert f"token {SECRET}" in head
            status = await self.judge(launch_id, said["port"])
            self.reports.append((launch_id, said["port"], status))
            writer.write(f"HTTP/1.1 {status} said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        finally:
            writer.close()

    async def hand_out(self, said: dict[str, str]) -> tuple[int, bytes]:
        """What the hub's route answers to a claim."""
        backend = self.backends[-1]
        ref = await asyncio.to_thread(backend._tools.records.of, said["launch"])
        try:
            assert ref is not None
            given = await backend.redeem(ref.handle(), said["code"], said["claimer"])
        except DaasError as error:
            self.claims.append((said, error.reason))
            return error.status, b""
        self.claims.append((said, ""))
        return REPORTED, json.dumps({"files": dict(given.files)}).encode()

    async def go_on(self, path: str, said: dict[str, str]) -> tuple[int, bytes]:
        """What the hub's routes answer to a job that has claimed."""
        if self.deaf:
            return 503, b""
        backend = self.backends[-1]
        try:
            ref = await asyncio.to_thread(backend._tools.records.of, said["launch"])
            assert ref is not None
            if path.endswith("/log"):
                await backend.told_log(ref.handle(), said["claimer"], said["log"])
                return REPORTED, b"{}"
            tokens = await backend.fetched_tokens(ref.handle(), said["claimer"])
        except DaasError as error:
            return error.status, b""
        return REPORTED, json.dumps(tokens.told()).encode()

    async def judge(self, launch_id: str, port: int) -> int:
        """What the hub would answer."""
        for backend in self.backends:
            ref = await asyncio.to_thread(backend._tools.records.of, launch_id)
            if ref is None:
                return 503
            try:
                taken = await backend.reported(ref.handle(), port)
            except BackendUnavailable:
                return 503
            if taken is None:
                return 409
        return REPORTED

    async def close(self) -> None:
        """Stop all that is there."""
        last = self.another()
        for found in await last.find():
            await last.stop(found.handle, within_s=30)
        for handle in await last.leftovers():
            await cleaned(last, handle)
        for backend in self.backends:
            await backend.close()


async def cleaned(backend: SlurmBackend, handle: Handle) -> None:
    """Clean up after a launch; once more where a busy disk took its time, as the reconciler does."""
    try:
        await backend.cleanup(handle)
    except BackendUnavailable:
        await backend.cleanup(handle)


def _fetch(url: str) -> None:
    import urllib.request

    urllib.request.urlopen(url, timeout=5).close()


@asynccontextmanager
async def slurm_place(cluster: Slurm, **traits: Any) -> AsyncIterator[SlurmPlace]:
    """A backend of a hub of its own on the shared cluster."""
    root = Path(tempfile.mkdtemp(prefix="daas-slurmplace-", dir="/var/tmp"))
    root.chmod(0o755)
    reachable_python()
    place = SlurmPlace(cluster, root, **traits)
    place.server = await asyncio.start_server(place.take, "127.0.0.1", 0)
    if place.backend.submit_by == "rest":
        place.traits["claim_url"] = place.backend.claim_url = f"{place.api_url}{CLAIM}"
    try:
        with no_blocking():
            yield place
    finally:
        await place.close()
        place.server.close()
        await place.server.wait_closed()
        shutil.rmtree(root)
