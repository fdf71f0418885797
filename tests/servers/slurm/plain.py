"""Jobs of ours by plain sbatch, as the user herself: what the helper does, without the helper. And a hub's ear."""

from __future__ import annotations

import http.server
import json
import os
import secrets
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from traitlets.config import Config

from daas_hub.backends.slurm_launch import launch_files
from daas_hub.backends.slurm_script import build_script
from daas_hub.core.models import Account, AccountGroup, LaunchSpec, Resources
from daas_hub.core.naming import new_id
from tests.servers import tiny_server

from .rig import LAB, LAB_GID, PEOPLE, Slurm

TOKEN = f"s3cr3t-of-this-launch-{secrets.token_hex(8)}"
"""Looked for in the whole machine, where other runs may have theirs."""
PYTHON = "/usr/bin/python3"
SAYS_ALL = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ), os.getcwd()], open(sys.argv[1], 'w'))"


def site(slurm: Slurm, **settings: Any) -> Config:
    """``c.SlurmSpawner``: batchspawner's defaults, and ``settings``. Here ``srun`` must listen on every address: from
    loopback everybody comes as 127.0.0.1, and to that the step's output would be sent."""
    path = slurm.root / "step.conf"
    if not path.exists():
        path.write_text((slurm.world.etc / "slurm" / "slurm.conf").read_text().replace(",NoInAddrAny", ""))
    config = Config()
    config.SlurmSpawner.req_prologue = f"export SLURM_CONF={path}"
    for name, value in settings.items():
        config.SlurmSpawner[name] = value
    return config


@dataclass
class Ear:
    """The route on which launchers report; ``answers`` are given in turn, the last one again and again."""

    url: str
    answers: list[int] = field(default_factory=lambda: [200])
    heard: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    """Headers and body of each report."""
    paths: list[str] = field(default_factory=list)

    def ports(self) -> list[int]:
        """The ports that were told, in order."""
        return [body["port"] for _, body in self.heard]


@contextmanager
def ear(tls: ssl.SSLContext | None = None) -> Iterator[Ear]:
    """Listens on loopback until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            one.heard.append((dict(self.headers), body))
            one.paths.append(self.path)
            status = one.answers.pop(0) if len(one.answers) > 1 else one.answers[0]
            self.send_response(status)
            if status in (302, 307):
                self.send_header("Location", f"{one.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    one = Ear(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}/hub/api/daas/report")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def spec_of(slurm: Slurm, user: str = "ada", *, home: str = "", **changes: Any) -> LaunchSpec:
    """A launch of a tiny server; ``changes`` are fields of it."""
    account = Account(
        id=new_id(),
        name=user,
        uid=PEOPLE[user],
        gid=LAB_GID,
        groups=(AccountGroup(LAB, LAB_GID),),
        home=home or str(slurm.homes / user),
        shell="/bin/bash",
        source="test",
        fetched_at=datetime.now(UTC),
    )
    fields: dict[str, Any] = {
        "launch_id": new_id(),
        "hub_id": "hub",
        "account": account,
        "user_name": user,
        "server_name": "",
        "resources": Resources(),
        "cmd": tiny_server.program(PYTHON),
        "environment": {"JUPYTERHUB_USER": user, "JUPYTERHUB_API_URL": "http://hub.invalid/hub/api"},
        "secrets": {"JUPYTERHUB_API_TOKEN": TOKEN},
        "mounts": (),
        "service_prefix": f"/user/{user}/",
    }
    return LaunchSpec(**{**fields, **changes})


def spec_here(home: Path, **changes: Any) -> LaunchSpec:
    """A launch of whoever runs this test, whose server writes down what it was given."""
    gid = os.getgid()
    account = Account(
        new_id(), "ada", os.getuid(), gid, (AccountGroup("own", gid),), str(home), "/bin/zsh", "t", datetime.now(UTC)
    )
    fields: dict[str, Any] = {
        "launch_id": new_id(),
        "hub_id": "hub",
        "account": account,
        "user_name": "ada",
        "server_name": "",
        "resources": Resources(),
        "cmd": (sys.executable, "-c", SAYS_ALL, str(home / "said")),
        "environment": {"JUPYTERHUB_USER": "ada", "HOME": "/forged", "JUPYTER_PATH": "/site"},
        "secrets": {"JUPYTERHUB_API_TOKEN": "t0ken"},
        "mounts": (),
        "service_prefix": "/user/ada/",
    }
    return LaunchSpec(**{**fields, **changes})


@dataclass(frozen=True)
class PlainJob:
    """One submitted job."""

    slurm: Slurm
    spec: LaunchSpec
    id: str
    folder: Path
    script: str

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text()

    def answers(self, heard: Ear, path: str = "whoami", *, times: int = 1) -> Any:
        """What its server says, once it has reported so many times and listens."""
        self.slurm.until(lambda: len(heard.heard) >= times or self._over(), what="the port is reported")
        host = self.slurm.job(self.id)["nodes"]
        url = f"http://{self.slurm.addresses[host]}:{heard.ports()[-1]}{self.spec.service_prefix}{path}"

        def asked() -> Any:
            try:
                return tiny_server.get(url)
            except OSError as error:
                return self._over(error)

        return self.slurm.until(asked, what=f"{url} answers")

    def _over(self, why: object = "") -> None:
        state = self.slurm.job(self.id)["job_state"]
        assert state in ("PENDING", "CONFIGURING", "RUNNING"), (state, why, self.log())

    def cancel(self) -> None:
        """As a stop does; returns when the job has ended."""
        self.slurm.run("scancel", self.id, user=self.spec.account.name)
        self.ended()

    def ended(self) -> dict[str, Any]:
        """The job, once it has ended."""
        return self.slurm.in_state(self.id, "CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL")


async def submit(
    slurm: Slurm,
    spec: LaunchSpec,
    heard: Ear,
    *,
    config: Config | None = None,
    ports: tuple[int, int] | None = None,
    account: Account | None = None,
) -> PlainJob:
    """Write the folder and submit, as the user. ``account``: what the launcher is told, where that is another one."""
    told = spec if account is None else replace(spec, account=account)
    account = spec.account
    folder = Path(account.home) / ".daas" / spec.launch_id
    folder.mkdir(parents=True)
    for name, text in launch_files(told, report_url=heard.url, ports=ports).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    for path in (folder.parent, folder, *folder.iterdir()):
        os.chown(path, account.uid, account.gid)
    for path in (folder.parent, folder):
        path.chmod(0o700)
    script = await build_script(spec, config=config or site(slurm), folder=str(folder), python=PYTHON)
    return again(PlainJob(slurm, spec, "", folder, script))


def again(job: PlainJob, *options: str) -> PlainJob:
    """Submit a launch's script (once more); ``options`` are further ones of sbatch."""
    slurm, spec, folder, account = job.slurm, job.spec, job.folder, job.spec.account
    words = ["sbatch", "--parsable", f"--comment=daas:{spec.hub_id}:{spec.launch_id}", f"--output={folder}/log"]
    words += ["--open-mode=append", "--export=NONE", f"--chdir={account.home}"]
    return replace(job, id=slurm.run(*words, *options, user=account.name, given=job.script).strip())
