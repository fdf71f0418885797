"""TLS on shared nodes: a hub on the login host, two nodes that it knows by name, and somebody who takes a port."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from daas_hub.core.launch_names import host_of
from daas_hub.core.models import Handle, LaunchState
from daas_hub.db.ledger import LaunchRow
from tests.flow.slurm_site import SlurmSite
from tests.servers.kernels import ServerApi
from tests.servers.port_trap import new_book, port_trap, received
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.rig import Slurm
from tests.waiting import until

pytestmark = [
    pytest.mark.needs("root", "slapd", "node"),
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
    newer_when_long,
]
PUBLIC = "hub.example.org"
"""What browsers call the hub."""
ON_GPU1 = """
c.DaasSpawner.profile_list.append({"display_name": "On gpu1", "slug": "gpu1",
    "resources": {"cpu_limit": 1, "mem_limit": "512M"}, "slurm_override": {"partition": "gpu"}})
c.DaasSpawner.profile_list.append({"display_name": "Idle", "slug": "idle",
    "resources": {"cpu_limit": 1, "mem_limit": "512M"}})
c.Culler.read_ledger_every_s = 1
c.Culler.rules = [{"name": "Idle", "profiles": ["idle"], "idle_after_s": 2}]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(slurm_any: Slurm) -> AsyncIterator[SlurmSite]:
    async with SlurmSite(slurm_any, more=ON_GPU1, names=True).standing("ada", "bob") as made:
        yield made


def row_of(site: SlurmSite, name: str) -> LaunchRow:
    (row,) = [row for row in site.launches() if row.user_name == name and row.state is LaunchState.RUNNING]
    return row


def handle_of(site: SlurmSite, name: str) -> Handle:
    handle = row_of(site, name).handle
    assert handle is not None
    return handle


async def started(site: SlurmSite, name: str, profile: str) -> Handle:
    status, said = await site.hub.start_server(name, options={"profile": profile})
    assert status in (201, 202), said
    return await asyncio.to_thread(handle_of, site, name)


def files_of(site: SlurmSite, handle: Handle) -> dict[str, str]:
    """A server's own key, certificate and authorities, as its account can read them."""
    folder = site.homes / handle["name"] / ".daas" / handle["launch_id"]
    names = {"client_key": "keyfile", "client_cert": "certfile", "ca_certs": "cafile"}
    return {kind: str(folder / file) for kind, file in names.items()}


def names_in(certificate: str) -> str:
    argv = ["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[1].strip()


def api_of(site: SlurmSite, name: str) -> ServerApi:
    """A person's server as her browser asks for it: by the proxy, which it calls by the hub's public name."""
    return ServerApi(f"{site.hub.url}/user/{name}/", site.hub.token, host=PUBLIC)


async def test_servers_on_two_nodes_and_over_a_hub_that_is_killed(site: SlurmSite) -> None:
    """Reached through the proxy by names of their own; the next hub takes them over with certificates as they were."""
    assert (site.state / "jupyterhub-proxy.pid").exists(), "no other test's hub ends this one's proxy"
    hers, his = await started(site, "ada", "small"), await started(site, "bob", "gpu1")
    assert (hers["node"], his["node"]) == ("cpu1", "gpu1")
    kernels = {}
    for name, handle in (("ada", hers), ("bob", his)):
        own = f"{handle['launch_id']}.{handle['node']}.daas.internal"
        assert names_in(files_of(site, handle)["client_cert"]) == f"DNS:{own}"
        assert host_of(own) == handle["node"]
        kernels[name] = await api_of(site, name).new_kernel()
        assert await api_of(site, name).run(kernels[name], "x = 41; print(x)") == "41\n"
    authority = site.state / "internal-ssl/notebooks-ca/notebooks-ca.crt"
    kept = [Path(files_of(site, hers)["client_cert"]), Path(files_of(site, his)["client_cert"]), authority]
    before = [path.read_bytes() for path in kept]
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    await site.hub.start()
    for name, handle in (("ada", hers), ("bob", his)):
        await until(lambda n=name: ready(site, n), within_s=60, what=f"the hub knows the server of {name}")
        now = await asyncio.to_thread(handle_of, site, name)
        assert (now["launch_id"], now["job_id"]) == (handle["launch_id"], handle["job_id"])
        assert await api_of(site, name).run(kernels[name], "print(x + 1)") == "42\n"
    assert [path.read_bytes() for path in kept] == before


async def ready(site: SlurmSite, name: str) -> bool:
    server = await site.hub.server(name)
    return server is not None and bool(server["ready"])


async def test_who_takes_over_a_port_on_the_same_node_gets_no_request(site: SlurmSite) -> None:
    """Bob has a server, and so a certificate, of this hub on the very node; the proxy still has ada's route."""
    await site.hub.stop_server("users/bob/server")
    hers, his = await asyncio.to_thread(handle_of, site, "ada"), await started(site, "bob", "small")
    assert hers["node"] == his["node"]
    own, stolen = files_of(site, his), stolen_of(site, hers)
    book = new_book(site.root)

    def trap(files: dict[str, str]) -> AbstractContextManager[None]:
        host = site.cluster.world.addresses[hers["node"]]
        return port_trap(site.person("bob"), host, hers["port"], files, book)

    async def asked() -> int:
        """The proxy's answer to a person's browser, which sends all that she has."""
        headers = {"Authorization": f"token {site.hub.token}", "Cookie": "secret=1", "Host": PUBLIC}
        return (await site.hub.http("GET", f"{site.hub.url}/user/ada/api/status", headers=headers))[0]

    job = str(hers["job_id"])
    site.cluster.run("scontrol", "suspend", job)
    with pytest.raises(AssertionError, match="not listening"), trap(own):
        pytest.fail("a suspended server has lost its port")
    site.cluster.run("scontrol", "resume", job)
    # With the hub gone nobody takes the route away.
    site.hub.signal(signal.SIGKILL)
    await site.hub.wait_gone()
    site.cluster.run("scancel", job)
    try:
        site.cluster.in_state(job, "CANCELLED")
        await until(lambda: not site.servers("ada"), within_s=30, what="her server has ended")
        with trap(own):
            assert await asked() != 200
        assert received(book) == {"handshake"}
        # With her key, as only a thief has it, he is asked: the trap works.
        with trap(stolen):
            assert await asked() == 200
        assert received(book) == {"handshake", "request"}
        book.write_text("")
        with trap(own):
            await site.hub.start()
            await until(lambda: gone(site, "ada"), within_s=60, what="the hub has seen the end of her server")
        assert "request" not in received(book)
    finally:
        if site.hub.process is None or site.hub.process.poll() is not None:
            await site.hub.start()


def stolen_of(site: SlurmSite, handle: Handle) -> dict[str, str]:
    """Copies of a server's own files that bob can read."""
    folder = site.root / "stolen"
    folder.mkdir()
    copies = {kind: str(folder / kind) for kind in files_of(site, handle)}
    for kind, path in files_of(site, handle).items():
        shutil.copyfile(path, copies[kind])
        shutil.chown(copies[kind], site.person("bob").uid)
    return copies


async def test_the_culler_asks_by_the_launchs_name(site: SlurmSite) -> None:
    await started(site, "ada", "idle")
    await until(
        lambda: next(r for r in site.launches() if r.user_name == "ada").state is LaunchState.ENDED,
        within_s=90, every_s=0.5, what="ended as idle",
    )  # fmt: skip
    assert "idle" in next(r for r in site.launches() if r.user_name == "ada").reason


async def gone(site: SlurmSite, name: str) -> bool:
    server = await site.hub.server(name)
    return server is None or bool(server.get("stopped"))
