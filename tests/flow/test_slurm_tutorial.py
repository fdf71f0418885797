"""docs/tutorial/slurm.md, followed on a login host: its own commands and files, and a hub that is its own account."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import pytest_asyncio

from tests.servers.demo import Visitor
from tests.servers.hub import http_call
from tests.servers.kernels import ServerApi
from tests.servers.manual import Manual
from tests.servers.ports import free_port
from tests.servers.slapd import BASE, PEOPLE, SERVICE_PASSWORD, Slapd, certificates
from tests.servers.slurm.fixtures import newer_when_long
from tests.servers.slurm.login_host import LoginHost
from tests.servers.slurm.plain import site as settings
from tests.servers.slurm.rig import LAB_GID, Slurm
from tests.servers.tutorial_software import ROOT, Software, wheel
from tests.servers.unit_file import NO_NEW_PRIVILEGES, PATH, Unit
from tests.waiting import until

pytestmark = [pytest.mark.needs("root", "slapd", "node"), pytest.mark.timeout(300), newer_when_long]
PAGE = ROOT / "docs" / "tutorial" / "slurm.md"
PROXY_VERSION = "5.3.0"
HUB = "daas-hub"
CAP_NET_BIND_SERVICE = 10
CAPABILITIES = (6, 7, CAP_NET_BIND_SERVICE)
"""setgid, setuid: linux/capability.h."""
MADE = (
    "/etc/daas-hub", "/srv/daas-hub", "/var/lib/daas-hub", "/var/lib/daas-hub.before", "/usr/local/sbin/daas-runas",
    "/etc/sudoers.d/daas-hub", "/etc/systemd/system/daas-hub.service",
)  # fmt: skip
TELL = "import json, os; print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), os.environ['SLURM_JOB_ID']]))"


class Reader:
    """Who follows the page, and what she has in her folder."""

    def __init__(self, cluster: Slurm, slapd: Slapd, folder: Path) -> None:
        self.cluster, self.slapd, self.folder = cluster, slapd, folder
        self.host = LoginHost(cluster.world)
        self.unit = Unit(self.host, HUB, folder / "hub.log")
        self.software = Software(wheel(folder / "wheels"), PROXY_VERSION)
        self.manual = Manual(
            PAGE,
            {
                "ldaps://ldap.example.org": slapd.tls_uri,
                "dc=example,dc=org": BASE,
                "researchers": "lab",
                "ReadWritePaths=/home": f"ReadWritePaths={cluster.homes}",
                # Hubs of other tests run on this machine.
                "https://127.0.0.1:8001": f"https://127.0.0.1:{free_port()}",
                '". /etc/profile"': repr(settings(cluster).SlurmSpawner.req_prologue),
            },
        )

    @property
    def url(self) -> str:
        """The hub's address: its name is known inside the cluster alone."""
        return f"https://{self.host.address}:443"

    def bring(self) -> None:
        """What the page asks for at its beginning."""
        certificates(self.folder, self.host.address)
        for ours, theirs in (("server.pem", "hub.crt"), ("server.key", "hub.key")):
            (self.folder / ours).rename(self.folder / theirs)
        (self.folder / "directory-ca.crt").write_bytes(self.slapd.ca_file.read_bytes())
        (self.folder / "bind-password").write_text(f"{SERVICE_PASSWORD}\n")
        self.host.start()
        self.software.put(self.cluster.root / "srv")

    def follow(self, heading: str) -> str:
        """Do what stands there; returns what it said."""
        said = ""
        for word, *rest in self.manual.steps(heading):
            if word == "systemctl":
                self.systemctl(*rest)
                continue
            env = {**self.software.environment, "PATH": PATH}
            script = f"cd {self.folder}\n{rest[0]}"
            done = self.host.ask("sh", "-ec", script, environment=env)
            assert done.returncode == 0, f"{heading}: {rest[0]}\n{done.stdout[-4000:]}"
            said += done.stdout
        return said

    def systemctl(self, *words: str) -> None:
        match words:
            case ("daemon-reload",):
                pass
            case ("enable", "--now", "daas-hub") | ("start", "daas-hub"):
                self.unit.start()
            case ("disable", "--now", "daas-hub") | ("stop", "daas-hub"):
                self.unit.stop()
            case _:
                raise AssertionError(words)

    def ask(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run something as the hub's account."""
        return self.host.ask("runuser", "-u", "hub", "--", *argv)

    def end(self) -> None:
        """Nothing is left, whatever went wrong."""
        try:
            self.unit.stop()
        finally:
            self.host.stop()
            shutil.rmtree(self.cluster.root / "srv" / HUB, ignore_errors=True)
            self.cluster.run("scancel", "--user=ada")


@pytest_asyncio.fixture
async def reader(slurm_any: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    slapd = Slapd(tmp_path / "slapd", slurm_any.homes)
    slapd.root.mkdir()
    made = await asyncio.to_thread(Reader, slurm_any, slapd, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    try:
        await slapd.start()
        await asyncio.to_thread(made.bring)
        yield made
    finally:
        try:
            await asyncio.to_thread(made.end)
        finally:
            await slapd.stop()


class Scientist:
    """Ada at her browser."""

    def __init__(self, reader: Reader) -> None:
        self.visitor, self._url, self._token = Visitor(reader.url), reader.url, ""

    async def sign_in(self) -> None:
        status, text = await self.visitor.sign_in({"name": "ada", "password": PEOPLE["ada"].password})
        assert status == 200, text[-2000:]
        status, me = await self.visitor.api("GET", "user")
        assert (status, me["name"], me["groups"]) == (200, "ada", ["lab"])

    async def start(self) -> ServerApi:
        """Press Start, wait, and open the notebook."""
        status, said = await self.visitor.api("POST", "users/ada/server", {"profile": "notebook"})
        assert status in (201, 202), said
        await until(self.ready, within_s=90, what="her server", every_s=0.2)
        return await self.server()

    async def server(self) -> ServerApi:
        """Her server, with a token of hers."""
        status, made = await self.visitor.api("POST", "users/ada/tokens", {"note": "notebook"})
        assert status == 201, made
        self._token = made["token"]
        return ServerApi(f"{self._url}/user/ada/", self._token)

    async def log(self, launch_id: str) -> tuple[str, str]:
        """Where the log of a launch of hers was read, and its text."""
        url = f"{self._url}/services/daas/api/v1/launches/{launch_id}/log"
        headers = {"Authorization": f"token {self._token}"}
        status, log = await asyncio.to_thread(http_call, "GET", url, None, headers)
        assert status == 200, log
        return log["source"], log["text"]

    async def stop(self) -> None:
        status, said = await self.visitor.api("DELETE", "users/ada/server")
        assert status in (202, 204), said
        await until(self.stopped, within_s=60, what="her server has stopped", every_s=0.2)

    async def ready(self) -> bool:
        return bool((await self._model()).get("ready"))

    async def stopped(self) -> bool:
        return (await self._model()).get("stopped", True)

    async def _model(self) -> Any:
        status, model = await self.visitor.api("GET", "users/ada")
        assert status == 200, model
        return model["servers"].get("", {})


async def up(reader: Reader) -> None:
    """The hub answers at its public address."""

    async def answers() -> bool:
        assert reader.unit.process is not None
        assert reader.unit.process.poll() is None, reader.unit.log.read_text()[-4000:]
        try:
            return (await Visitor(reader.url).call("GET", "/hub/health"))[0] == 200
        except OSError:
            return False

    await until(answers, within_s=60, what=f"the hub; its log: {reader.unit.log}", every_s=0.1)


def prepared(reader: Reader) -> None:
    """Steps 1 to 7, and what they must have made."""
    for number in "1234":
        reader.follow(f"{number}. ")
    helper = os.stat(reader.host.path("/usr/local/sbin/daas-runas"))
    assert (helper.st_uid, helper.st_mode & 0o777) == (0, 0o755)
    rules = reader.host.path("/etc/sudoers.d/daas-hub").read_text()
    assert indent(rules, "    ") in PAGE.read_text(), "the page shows the lines that are installed"
    reader.follow("5. ")
    reader.follow("6. ")
    for path in ("runas.json", "jupyterhub_config.py", "tls/hub.key", "bind-password"):
        assert reader.ask("cat", f"/etc/daas-hub/{path}").returncode == 0, path
        assert reader.ask("sh", "-c", f"echo x >> /etc/daas-hub/{path}").returncode != 0, path
    assert reader.ask("cat", "/etc/daas-hub/hub.env").returncode != 0
    assert reader.unit.verify() == ""
    said = reader.follow("7. ")
    assert "ERROR" not in said, said
    parts = ["by the name hub.example.org", "squeue answers", "sbatch is there", "the controller's agree"]
    parts += ["hub is shown everybody's jobs", "partitions: ", "sacct answers", "refuses whom it must", "records are"]
    for part in parts:
        assert part in said, (part, said)


async def test_from_a_login_node_to_a_notebook_in_a_job_and_back(reader: Reader) -> None:
    """Every command of the page, in its order: her job, its kernel over an upgrade of the hub, and nothing left."""
    await asyncio.to_thread(prepared, reader)
    await asyncio.to_thread(reader.follow, "8. ")
    await up(reader)
    ada = Scientist(reader)
    await ada.sign_in()
    server = await ada.start()
    kernel = await server.new_kernel()
    uid, gid, groups, job = json.loads(await server.run(kernel, TELL))
    assert (uid, gid, LAB_GID in groups) == (PEOPLE["ada"].uid, LAB_GID, True)
    told = reader.cluster.job(job)
    assert (told["user_name"], told["comment"].rpartition(":")[0]) == ("ada", "daas:cluster-hub")
    # By the helper: the file is hers, and the hub cannot open it.
    where, text = await ada.log(told["comment"].rpartition(":")[2])
    assert (where, "jupyterhub-singleuser" in text or "Jupyter Server" in text) == ("server", True), text
    await asyncio.to_thread(bounded, reader)
    await asyncio.to_thread(reader.follow, "Upgrade")
    await up(reader)
    await until(ada.ready, within_s=60, what="the hub knows her server", every_s=0.2)
    assert json.loads(await server.run(kernel, "print(json.dumps(os.environ['SLURM_JOB_ID']))")) == job
    await ada.stop()
    await asyncio.to_thread(reader.cluster.in_state, job, "CANCELLED", "COMPLETED")
    left = json.loads(await (server := await ada.start()).run(await server.new_kernel(), TELL))[3]
    uid = reader.host.uid("hub")
    # Somebody's comment looks like another line of a list of the hub's jobs.
    innocent = reader.cluster.submit("sleep 600", "--hold", user="bob")
    liar = reader.cluster.submit("sleep 600", "--hold", f"--comment=x\n{innocent} daas:cluster-hub:0", user="eve")
    await asyncio.to_thread(reader.follow, "Undo")
    await asyncio.to_thread(reader.cluster.in_state, left, "CANCELLED", "COMPLETED")
    assert {reader.cluster.job(one)["job_state"] for one in (innocent, liar)} == {"PENDING"}
    reader.cluster.run("scancel", innocent, liar)
    assert [path for path in MADE if reader.host.path(path).exists()] == []
    assert reader.host.ask("id", "hub").returncode != 0
    await until(lambda: not reader.host.pids(uid), what="no process of the hub is left")
    assert reader.manual.left() == []


def bounded(reader: Reader) -> None:
    """The hub's processes are its account's, with one capability, and can neither read her home nor become root."""
    uid = reader.host.uid("hub")
    assert reader.unit.process is not None
    pids = reader.host.pids(uid)
    assert reader.unit.process.pid in pids
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == [str(uid)] * 4
        assert int(status["CapBnd"], 16) == sum(1 << number for number in CAPABILITIES)
        assert int(status["CapEff"], 16) == 1 << CAP_NET_BIND_SERVICE
    assert not NO_NEW_PRIVILEGES & set(reader.unit.settings)
    home = reader.cluster.homes / "ada"
    assert reader.ask("ls", str(home)).returncode != 0
    assert reader.ask("sudo", "-n", "id").returncode != 0
    inside = ["nsenter", "--target", str(reader.unit.process.pid), "--mount", "--"]
    for path in ("/etc", "/srv/daas-hub", "/usr/local/sbin", "/var/lib"):
        written = subprocess.run([*inside, "touch", f"{path}/written"], capture_output=True, check=False)
        assert b"Read-only" in written.stderr, path
    records = [path.stat().st_uid for path in reader.host.path("/var/lib/daas-hub/slurm").rglob("*")]
    assert set(records) == {uid}
