"""The control plane: etcd, API server, controller manager, scheduler."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from .keys import Keys
from .program import Program
from .space import Space

ADMISSION = "NodeRestriction,ResourceQuota,PodSecurity"
# Thousands of simulated pods: the defaults are 20 and 50 requests a second.
QUICK = ("--kube-api-qps=500", "--kube-api-burst=1000")
ETCD = "http://127.0.0.1:2379"


class ControlPlane:
    """The four programs. Each may be stopped and started again alone, as a fault."""

    def __init__(self, space: Space, keys: Keys, programs: dict[str, Path]) -> None:
        self.keys = keys
        self.etcd = Program("etcd", self._etcd(programs["etcd"], space), space)
        self.api = Program("kube-apiserver", self._api(programs["kube-apiserver"]), space, answers=self._ready)
        self.controllers = Program(
            "kube-controller-manager", self._controllers(programs["kube-controller-manager"]), space
        )
        self.scheduler = Program("kube-scheduler", self._scheduler(programs["kube-scheduler"]), space)

    @property
    def all(self) -> tuple[Program, ...]:
        """In the order of starting."""
        return self.etcd, self.api, self.controllers, self.scheduler

    def start(self) -> None:
        """Start all and wait until the API server is ready."""
        for program in self.all:
            program.start()
        self.api.wait()

    def _ready(self) -> bool:
        return answers(self.keys.url + "/readyz", self.keys.ca)

    @staticmethod
    def _etcd(program: Path, space: Space) -> list[str]:
        # It loses data when the machine loses power; so does everything else here.
        return [str(program), "--name=rig", f"--data-dir={space.place.data}/etcd", "--unsafe-no-fsync",
                f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
                "--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn"]  # fmt: skip

    def _api(self, program: Path) -> list[str]:
        keys, place = self.keys, self.keys.place
        server, client = keys.pair("server"), keys.pair("client")
        accounts = keys.pair("accounts")[1]
        return [
            str(program),
            f"--etcd-servers={ETCD}",
            f"--advertise-address={place.node}",
            f"--secure-port={keys.port}",
            f"--service-cluster-ip-range={place.services}",
            f"--tls-cert-file={server[0]}",
            f"--tls-private-key-file={server[1]}",
            f"--cert-dir={keys.folder}/self-made",
            f"--kubelet-client-certificate={client[0]}",
            f"--kubelet-client-key={client[1]}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--token-auth-file={keys.tokens}",
            "--authorization-mode=Node,RBAC",
            f"--enable-admission-plugins={ADMISSION}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--allow-privileged=true",
        ]

    def _controllers(self, program: Path) -> list[str]:
        keys = self.keys
        return [
            str(program),
            f"--kubeconfig={keys.kubeconfig('controllers')}",
            f"--root-ca-file={keys.ca}",
            f"--service-account-private-key-file={keys.pair('accounts')[1]}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            *QUICK,
            f"--cert-dir={keys.folder}/self-made-controllers",
            "--bind-address=127.0.0.1",
        ]

    def _scheduler(self, program: Path) -> list[str]:
        return [
            str(program),
            f"--kubeconfig={self.keys.kubeconfig('scheduler')}",
            "--leader-elect=false",
            *QUICK,
            f"--cert-dir={self.keys.folder}/self-made-scheduler",
            "--bind-address=127.0.0.1",
        ]


def answers(url: str, ca: Path) -> bool:
    """Whether an HTTPS address answers 200."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=str(ca))
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=2)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def listens(address: str, port: int) -> Callable[[], bool]:
    """A condition: something accepts connections there."""
    import socket

    def condition() -> bool:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            return False
        return True

    return condition
