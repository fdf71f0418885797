"""An API server and its etcd, nothing else: enough for rights and admission, and up in seconds."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the API server says."""

    code: int
    body: Json

    @property
    def why(self) -> str:
        """Its own words where it refuses."""
        return str(self.body.get("message", ""))


class ApiServer:
    """Both programs on free ports of 127.0.0.1; ``folder`` takes keys, data and logs."""

    def __init__(self, folder: Path, programs: dict[str, Path]) -> None:
        self.folder, self.programs = folder, programs
        self.port = free_port()
        self._token = secrets.token_hex(16)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connection: http.client.HTTPSConnection | None = None

    @property
    def kubeconfig(self) -> Path:
        """An administrator's."""
        return self.folder / "kubeconfig"

    def start(self, within_s: float = 60.0) -> ApiServer:
        """Start both and wait until objects can be made. Raises RuntimeError with the end of the logs."""
        key = self.folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        client, peer = free_port(), free_port()
        self._run("etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", "--log-level=warn",
                  f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
                  f"--listen-peer-urls=http://127.0.0.1:{peer}")  # fmt: skip
        self._run("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}", "--bind-address=127.0.0.1",
                  f"--secure-port={self.port}", f"--cert-dir={self.folder}/made", "--endpoint-reconciler-type=none",
                  "--service-cluster-ip-range=10.0.0.0/24", f"--token-auth-file={self.folder}/tokens.csv",
                  "--authorization-mode=RBAC", "--allow-privileged=true", "--service-account-issuer=https://kubernetes.default.svc",
                  f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}")  # fmt: skip
        self._until_ready(time.monotonic() + within_s)
        self.kubeconfig.write_text(json.dumps(self._kubeconfig()))
        return self

    def _run(self, name: str, *words: str) -> None:
        # The kernel ends them with us, however we end.
        argv = ["setpriv", "--pdeathsig", "KILL", str(self.programs[name]), *words]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder)
            )

    def _until_ready(self, deadline: float) -> None:
        while True:
            try:
                # The priority class is made by a hook of the server's start, after which namespaces are there too.
                if self.ask("GET", "/readyz").code == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._processes):
                raise RuntimeError(f"The API server did not start. {self.tail()}")
            time.sleep(0.1)

    def tail(self) -> str:
        """The ends of both logs."""
        return "\n".join(f"{p.name}: {p.read_text(errors='replace')[-2000:]}" for p in self.folder.glob("*.log"))

    def _kubeconfig(self) -> Json:
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority": f"{self.folder}/made/apiserver.crt",
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "rig", "cluster": cluster}],
            "users": [{"name": "rig", "user": {"token": self._token}}],
            "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
            "current-context": "rig",
        }

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        as_account: str = "",
        groups: tuple[str, ...] = (),
        content_type: str = "application/json",
    ) -> Answer:
        """One request, as an administrator or as ``namespace:name``, a service account, with that one's rights and
        those of ``groups``."""
        headers = [("Authorization", f"Bearer {self._token}"), ("Content-Type", content_type)]
        if as_account:
            namespace = as_account.partition(":")[0]
            service = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            headers.append(("Impersonate-User", f"system:serviceaccount:{as_account}"))
            headers += [("Impersonate-Group", group) for group in (*service, *groups)]
        given = b"" if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            connection = self._connected()
            try:
                # Not `request`, whose headers are a dict: groups are one header each.
                connection.putrequest(method, path)
                for header in (*headers, ("Content-Length", str(len(given)))):
                    connection.putheader(*header)
                connection.endheaders(given)
                said = connection.getresponse()
                raw = said.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self._connection = None
                if attempt == 2:
                    raise
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = {"message": raw.decode(errors="replace")}
        return Answer(said.status, answer)

    def _connected(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            made = self.folder / "made" / "apiserver.crt"
            context = ssl.create_default_context(cafile=str(made))
            self._connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        return self._connection

    def stop(self) -> None:
        """End both."""
        if self._connection is not None:
            self._connection.close()
        for process in reversed(self._processes):
            process.kill()
            process.wait(10)
