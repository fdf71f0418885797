"""An API server that goes silent in the middle of TLS: what waited for it is not left open when the pool is closed."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from daas_hub.clients.kube import Kube
from daas_hub.core.errors import BackendUnavailable

pytestmark = pytest.mark.needs("kube_api")

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"


class Silent:
    """Takes a request, sends ``answer`` (the begin of one, or nothing), and never reads or writes again."""

    def __init__(self, folder: Path, answer: bytes) -> None:
        self.folder, self.answer = folder, answer
        self._certificate = folder / "server.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=api",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", self._certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._taken: list[ssl.SSLSocket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def kubeconfig(self) -> str:
        """A file that leads here."""
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self._certificate)}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": "not-secret"}}],
        }
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(body))
        return str(file)

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self.folder / "key.pem")
        with suppress(OSError):
            while True:
                taken = context.wrap_socket(self._listening.accept()[0], server_side=True)
                self._taken.append(taken)
                taken.recv(2**16)
                taken.sendall(self.answer)

    def open_ends(self) -> int:
        """How many sockets of this process lead here: /proc/net/tcp, remote address; 0 as inode is none's any more."""
        lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        return sum(int(line[2].split(":")[1], 16) == self.port and line[9] != "0" for line in lines)

    def end(self) -> None:
        """End it."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for one in self._taken:
            one.close()


@pytest.fixture(params=[pytest.param(b"", id="no-answer"), pytest.param(BEGUN, id="half-an-answer")])
def silent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Silent]:
    server = Silent(tmp_path, request.param)
    yield server
    server.end()


async def test_a_call_that_timed_out_leaves_no_socket_behind(silent: Silent) -> None:
    kube = Kube(kubeconfig=silent.kubeconfig())
    with pytest.raises(BackendUnavailable):
        await kube.call("GET", "/api/v1/pods", within_s=0.5)
    await kube.close()
    assert silent.open_ends() == 0


async def test_a_watch_that_was_given_up_leaves_no_socket_behind(silent: Silent) -> None:
    kube = Kube(kubeconfig=silent.kubeconfig())

    async def watch() -> None:
        async for _ in kube.stream("/api/v1/pods", {"watch": "true"}, silent_s=60, opened=lambda: None):
            pass

    watching = asyncio.create_task(watch())
    while silent.open_ends() == 0:
        await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await kube.close()
    assert silent.open_ends() == 0
