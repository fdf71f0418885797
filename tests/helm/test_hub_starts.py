"""The hub and the proxy as the chart runs them: its config, its secrets, its arguments, its uid; without a cluster.

Both run in a network of their own, so that the chart's fixed ports are free. Names of services are replaced by the
loopback address, images by this machine's programs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from daas_hub.clients.interpreters import reachable_by
from daas_hub.demo.proxy_command import proxy_command
from tests.servers.reachable_python import reachable_python
from tests.waiting import until

from .chart import CHART, RELEASE, RELEASE_NAMESPACE, Helm

pytestmark = [pytest.mark.needs("kube_api", "root", "node"), pytest.mark.timeout(120)]
LOCAL = "127.0.0.1"
CLUSTER = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
"""As kubelet sets them in every pod."""


def python_of(uid: int) -> str:
    """A Python that this uid can run and that takes the packages of the tests' own."""
    return sys.executable if reachable_by(uid, Path(sys.executable)) else reachable_python()


class Pods:
    """The two containers, as processes in one network of their own."""

    def __init__(self, objects: list[dict[str, Any]], folder: Path) -> None:
        self.objects, self.folder = objects, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.inside = self._network()

    def _network(self) -> list[str]:
        script = "ip link set lo up && echo ready && exec sleep infinity"
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", script]
        holder = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.processes.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        return ["nsenter", "--target", str(holder.pid), "--net", "--"]

    def find(self, kind: str, name: str) -> dict[str, Any]:
        return next(o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (kind, name))

    def run(self, name: str, program: list[str]) -> None:
        """The container of that Deployment, with this program in the place of its command."""
        body = self.find("Deployment", f"{RELEASE}-{name}")["spec"]["template"]["spec"]
        container, who = body["containers"][0], body["securityContext"]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment |= CLUSTER
        environment |= dict(self._variable(v) for v in container["env"])
        args = [arg.replace("/etc/daas-hub", f"{self.folder}/etc") for arg in container["args"]]
        args = [arg.replace(f"{RELEASE}-hub.{RELEASE_NAMESPACE}.svc", LOCAL) for arg in args]
        become = ["setpriv", "--pdeathsig", "KILL", f"--reuid={who['runAsUser']}", f"--regid={who['runAsGroup']}"]
        become += ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [*self.inside, *become, *program, *args],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder / "data",
                )
            )  # fmt: skip

    def _variable(self, given: dict[str, Any]) -> tuple[str, str]:
        source = given.get("valueFrom", {})
        if "secretKeyRef" in source:
            data = self.find("Secret", source["secretKeyRef"]["name"])["data"]
            return given["name"], base64.b64decode(data[source["secretKeyRef"]["key"]]).decode()
        return given["name"], LOCAL if "fieldRef" in source else given["value"]

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page, through the proxy."""
        argv = [*self.inside, "curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", f"http://{LOCAL}:8000{path}"]
        text, _, code = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        return int(code or 0), text

    def environments(self, module: str) -> list[dict[str, str]]:
        """Of each process of that module in this network."""
        own = Path(f"/proc/{self.processes[0].pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if words[1:3] == ["-m", module] and (entry / "ns" / "net").readlink() == own:
                    pairs = (entry / "environ").read_bytes().decode().split("\0")
                    found.append(dict(pair.split("=", 1) for pair in pairs if "=" in pair))
        return found

    def logs(self) -> str:
        return "\n".join(
            f"{p.name}: {p.read_text(errors='replace')[-4000:]}"
            for p in sorted(self.folder.glob("*.log"), reverse=True)
        )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            if process.stdout:
                process.stdout.close()


@pytest.fixture
def pods(helm: Helm) -> Iterator[Pods]:
    folder = Path(tempfile.mkdtemp())
    values = {
        "hub": {
            "baseUrl": "/jupyter/",
            "config": {
                "JupyterHub": {"authenticator_class": "dummy", "hub_connect_url": f"http://{LOCAL}:8081"},
                "ConfigurableHTTPProxy": {"api_url": f"http://{LOCAL}:8001"},
                "KubeBackend": {"kubeconfig": str(helm.folder / "nowhere")},
            },
            "extraConfig": "c.Authenticator.allow_all = True\nc.JupyterHub.log_level = 'DEBUG'\n",
        }
    }
    named = helm.values(values, "hub-starts")
    words = ("template", RELEASE, str(CHART), "--namespace", RELEASE_NAMESPACE, "--kube-version=1.34.0", named)
    made = Pods([o for o in yaml.safe_load_all(helm.must(*words)) if o], folder)
    try:
        for name in ("etc", "data"):
            (folder / name).mkdir()
        for name, text in made.find("ConfigMap", f"{RELEASE}-hub")["data"].items():
            (folder / "etc" / name).write_text(text)
        folder.chmod(0o755)
        os.chown(folder / "data", 1000, 1000)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


async def test_hub_console_and_proxy_start_and_answer(pods: Pods) -> None:
    pods.run("proxy", list(proxy_command().argv))
    pods.run("hub", [python_of(1000), "-m"])

    def answered() -> bool:
        if any(process.poll() is not None for process in pods.processes):
            raise AssertionError(pods.logs())
        return pods.get("/jupyter/services/daas/health")[0] == 200

    try:
        await until(answered, within_s=60, every_s=0.5, what="the console answers through the proxy")
        code, page = pods.get("/jupyter/hub/login")
        assert code == 200
        assert 'name="username"' in page
        assert pods.get("/jupyter/hub/health")[0] == 200
        found = await until(
            lambda: pods.environments("daas_hub.services.reconciler"), within_s=30, what="the reconciler"
        )
        assert found[0].items() >= CLUSTER.items(), "it could not find its cluster"
    except AssertionError as error:
        raise AssertionError(f"{error}\n{pods.logs()}") from error
    there = {path.name for path in (pods.folder / "data").iterdir()}
    assert {"jupyterhub.sqlite", "ledger.sqlite", "cookie-secret"} <= there
