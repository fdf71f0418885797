"""Hubs that hold running SLURM servers, without having started them: their databases, ledger and records are filled.

The jobs are real (allocations without a process); one listener answers for all servers. ``noop`` and ``bundle`` are the
same hubs with a spawner that does nothing: the plain one beside the peer's, ours beside ours.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyterhub import orm

from daas_hub.backends.slurm_records import Records
from daas_hub.core.models import Account, AccountGroup, Charge, LaunchState
from daas_hub.core.slurm_launches import Ref
from daas_hub.db.ledger import Ledger, Reservation
from tests.bench.driven_hub import RECORDING, TICKS, DrivenHub, Server
from tests.bench.instant import LISTENER
from tests.bench.kube_sides import NOOP as OUR_NOOP
from tests.bench.kube_sides import enrol, listener, names
from tests.bench.peers import python_of
from tests.bench.slurm_cluster import HUB, TRAITS, hold
from tests.flow.slurm_site import SlurmSite
from tests.servers.hub import HubServer
from tests.servers.slurm.rig import LAB, LAB_GID, Slurm

FIRST_UID = 21000
"""As ``enrol`` gives them."""
SIDES = ("noop", "peer", "tuned", "bundle", "ours")
HOST = "127.0.0.1"
PLAIN = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
"""
NOOP = """
from jupyterhub.spawner import Spawner
class Noop(Spawner):
    async def start(self):
        raise NotImplementedError
    async def stop(self, now=False):
        pass
    async def poll(self):
        return None
c.JupyterHub.spawner_class = Noop
"""
PEER = """
import batchspawner
c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
"""
AS_INSTALLED = f"""
c.SlurmBackend.poll_interval_s = 2.0
c.SlurmBackend.waiting_interval_s = 1.0
c.SlurmBackend.command_timeout_s = 15
c.SlurmBackend.node_addresses = {dict.fromkeys(("cpu1", "gpu1"), HOST)!r}
"""
FILES = ["sh", "-c", 'ulimit -Sn "$(ulimit -Hn)"; exec "$@"', "sh"]
"""A thousand polls at once need more open files than a shell's default allows."""


class FullSite(SlurmSite):
    """Ends without stopping a thousand servers: their cluster ends, too."""

    async def stop_servers(self) -> None:
        """Leave them."""


@dataclass
class Hub:
    """One side."""

    name: str
    driven: DrivenHub
    site: FullSite | None = None
    """Ours only."""

    def cpu_s(self) -> float:
        """CPU seconds of the hub's process since it began, with the children that it has waited for."""
        assert self.driven.hub.process is not None
        fields = Path(f"/proc/{self.driven.hub.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS


def uids_of(people: int) -> dict[str, int]:
    """So many people: name → uid."""
    return {name: FIRST_UID + number for number, name in enumerate(names(people))}


@asynccontextmanager
async def hubs(
    slurm: Slurm, uids: Mapping[str, int], each: int, *which: str
) -> AsyncIterator[tuple[dict[str, Hub], set[Server]]]:
    """The hubs, each with ``each`` servers of each of these people, and which servers that are.

    They have run once and are stopped: one that runs beside another one's start would be measured with it.
    """
    servers: dict[Server, tuple[str, str]] = {}
    for user in uids:
        held = await asyncio.to_thread(hold, slurm, each, user=user)
        servers |= {(user, f"s{number}"): job for number, job in enumerate(held.items())}
    made: dict[str, Hub] = {}
    async with AsyncExitStack() as stack:
        url = await listener(stack, HOST)
        for name in which or SIDES:
            begin = _ours if name in ("bundle", "ours") else _plain
            made[name] = await begin(stack, slurm, name, servers, uids, url)
            stack.push_async_callback(made[name].driven.close)
        yield made, set(servers)


async def _plain(
    stack: AsyncExitStack, slurm: Slurm, name: str, servers: Mapping[Server, tuple[str, str]], uids: Any, url: str
) -> Hub:
    del uids
    root = Path(tempfile.mkdtemp(prefix="daas-bench-"))
    stack.callback(shutil.rmtree, root, ignore_errors=True)
    traits = "".join(f"c.SlurmSpawner.{key} = {value!r}\n" for key, value in TRAITS.get(name, {}).items())
    hub = HubServer(root, PLAIN + (NOOP if name == "noop" else PEER + traits) + RECORDING)
    hub.python = str(await asyncio.to_thread(python_of, "batchspawner"))
    hub.wrapper = [*slurm.login(), *FILES]
    states = {server: {"job_id": job, "job_status": "RUNNING cpu1"} for server, (job, _) in servers.items()}
    await asyncio.to_thread(_fill_hub, root, states, url)
    stack.push_async_callback(hub.stop)
    await hub.start(within_s=600)
    await hub.stop()
    return Hub(name, DrivenHub(hub))


async def _ours(
    stack: AsyncExitStack, slurm: Slurm, name: str, servers: Mapping[Server, tuple[str, str]], uids: Any, url: str
) -> Hub:
    more = RECORDING + (OUR_NOOP if name == "bundle" else "")
    site = FullSite(slurm, more=more, proxy=False, cmd=["/bin/false"], env={LISTENER: url})
    site.more += AS_INSTALLED
    # As the comments of its jobs say.
    site.hub_id = HUB
    stack.push_async_callback(site.stop)
    await site.start()
    site.hub.wrapper = FILES
    await enrol(site, list(uids))
    # What it does after the first sign-ins of its people is done by the next start.
    await site.hub.stop()
    states: dict[Server, Any] = {server: {"x": 1} for server in servers}
    if name == "ours":
        await asyncio.to_thread(_fill_ledger, site, servers, uids, int(url.rpartition(":")[2]))
        states = {server: {"launch_id": launch} for server, (_, launch) in servers.items()}
    await asyncio.to_thread(_fill_hub, site.state, states, url)
    return Hub(name, DrivenHub(site.hub), site)


def _fill_hub(root: Path, states: Mapping[Server, Any], url: str) -> None:
    """Running servers in the hub's own database; blocks."""
    session = orm.new_session_factory(f"sqlite:///{root}/jupyterhub.sqlite")()
    now = datetime.now(UTC).replace(tzinfo=None)
    people = {user.name: user for user in session.query(orm.User)}
    port = int(url.rpartition(":")[2])
    for (user, name), state in states.items():
        if user not in people:
            people[user] = orm.User(name=user)
            session.add(people[user])
        server = orm.Server(proto="http", ip=HOST, port=port, base_url=f"/user/{user}/{name}/", cookie_name="c")
        session.add(
            orm.Spawner(user=people[user], name=name, server=server, state=state, started=now, last_activity=now)
        )
    session.commit()
    session.bind.dispose()


def _account(ledger: Ledger, site: FullSite, user: str, uid: int, now: datetime) -> str:
    """The id of a person's account, as a start makes it."""
    groups = (AccountGroup(LAB, LAB_GID),)
    account = Account("", user, uid, LAB_GID, groups, str(site.homes / user), "/bin/sh", "bench", now)
    return ledger.accounts.upsert(account, ("bench", user), user, now).id


def _fill_ledger(site: FullSite, servers: Mapping[Server, tuple[str, str]], uids: Mapping[str, int], port: int) -> None:
    """The same servers in our ledger, and their records; blocks."""
    ledger, records = site.ledger(), Records(site.root / "records" / site.hub_id)
    now = datetime.now(UTC)
    try:
        accounts = {user: _account(ledger, site, user, uid, now) for user, uid in uids.items()}
        for (user, name), (job, launch) in servers.items():
            ref = Ref(
                launch, site.hub_id, user, uids[user], LAB_GID, str(site.homes / user), f"/user/{user}/{name}/",
                tls=False, asked_at=now, job_id=int(job), port=port, node="cpu1",
            )  # fmt: skip
            ledger.reserve(
                Reservation(
                    launch_id=launch, hub_boot_id="bench", account_id=accounts[user], user_name=user,
                    server_name=name, groups=("lab",), project=None, profile="basic",
                    charge=Charge(cores=1, memory_bytes=2**30), backend="slurm", request={"version": 1},
                    api_token_encrypted=None, source="bench",
                ),
                now=now,
            )  # fmt: skip
            ledger.move(launch, LaunchState.SUBMITTED, now=now)
            ledger.save_handle(launch, ref.handle(), now=now)
            ledger.move(launch, LaunchState.RUNNING, now=now)
            records.save(ref)
    finally:
        ledger.close()
