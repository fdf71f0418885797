"""Names of launches: made, taken apart, looked up, and checked by the proxy's hook."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daas_hub.backends import local_probe
from daas_hub.backends.slurm_settings import SlurmSettings
from daas_hub.clients.launch_names import LaunchResolver
from daas_hub.core.errors import StartFailed
from daas_hub.core.launch_names import host_of, name_of, not_too_many
from daas_hub.wiring import launch_names
from tests.servers.authorities import make_authorities

LAUNCH = "0" * 31 + "a"
HOSTS = ["cpu1", "GPU-2.cluster.example.org", "192.0.2.7", "2001:db8::1", "::1"]


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_is_in_the_name(host: str) -> None:
    name = name_of(LAUNCH, host)
    assert name.startswith(f"{LAUNCH}.")
    found = host_of(name)
    if ":" in host:
        assert socket.inet_pton(socket.AF_INET6, found) == socket.inet_pton(socket.AF_INET6, host)
    else:
        assert found == host.lower()


def test_two_launches_on_a_host_have_two_names() -> None:
    assert name_of(LAUNCH, "cpu1") != name_of(LAUNCH[::-1], "cpu1")


@pytest.mark.parametrize("name", ["cpu1", "127.0.0.1", "hub.example.org", ".daas.internal", "daas.internal", ""])
def test_other_names_are_looked_up_as_they_are(name: str) -> None:
    assert host_of(name) == name


async def test_tornado_and_aiohttp_look_up_the_host() -> None:
    name = name_of(LAUNCH, "127.0.0.5")
    assert await LaunchResolver().resolve(name, 80) == [(socket.AF_INET, ("127.0.0.5", 80))]
    (found,) = await launch_names.LaunchResolver().resolve(name, 80)
    assert (found["host"], found["port"]) == ("127.0.0.5", 80)


def test_names_of_our_own_only_where_dns_has_none() -> None:
    usual = SlurmSettings(node_dns="{node}.example.org")
    assert usual.address_of("n1", LAUNCH, named=False) == "n1.example.org"
    assert usual.certificate_name("n1", LAUNCH) == f"DNS:{LAUNCH}.n1.example.org.daas.internal"
    assert SlurmSettings(launch_names=False).certificate_name("n1", LAUNCH) == "DNS:n1"
    by_dns = SlurmSettings(node_dns="{launch}.{node}.example.org")
    assert by_dns.certificate_name("n1", LAUNCH) == f"DNS:{LAUNCH}.n1.example.org"


def test_the_proxys_command_keeps_what_else_node_is_told() -> None:
    env, options, *command = launch_names.with_hook(["node", "proxy"], "--max-old-space-size=300")
    assert (env, command) == ("env", ["node", "proxy"])
    assert options == f'NODE_OPTIONS=--max-old-space-size=300 --require="{launch_names.HOOK}"'


# ---------------------------------------------------------------- a real connection


@contextmanager
def server_named(files: dict[str, str]) -> Iterator[int]:
    """A server on 127.0.0.1 with a certificate, and its port; it answers everything with 200."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["client_cert"], files["client_key"])

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as wire:
                    wire.recv(4096)
                    wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


ASK = """
const https = require("node:https");
const { readFileSync } = require("node:fs");
const [port, ca, ...asked] = process.argv.slice(1);
const agent = new https.Agent({ keepAlive: true });
const answers = asked.map((pair) => new Promise((done) => {
  const [target, host] = pair.split("|");
  const request = https.request({ host: target, port, agent, ca: readFileSync(ca), headers: { host } });
  request.on("response", (answer) => done(answer.resume().statusCode));
  request.on("error", (error) => done(error.code));
  request.end();
}));
Promise.all(answers).then((all) => { console.log(JSON.stringify(all)); process.exit(); });
"""
REFUSED = "ERR_TLS_CERT_ALTNAME_INVALID"


@pytest.mark.needs("node")
async def test_the_proxys_node_checks_the_targets_name_and_not_the_browsers(tmp_path: Path) -> None:
    """Without the hook Node checks what the browser called the hub: each server is refused, or the wrong one taken."""
    name, other = name_of(LAUNCH, "127.0.0.1"), name_of(LAUNCH[::-1], "127.0.0.1")
    files = make_authorities(tmp_path / "ca", names=[f"DNS:{name}"])
    node = shutil.which("node")
    assert node is not None
    pairs = [f"{name}|hub.example.org", f"{name}|127.0.0.1:8000", f"{other}|hub.example.org", f"{other}|{name}"]

    def ask(*more: str, targets: list[str]) -> list[object]:
        argv = [node, *more, "-e", ASK, "--", str(port), files["ca_certs"], *targets]
        return list(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout))

    with server_named(files) as port:
        assert ask(f"--require={launch_names.HOOK}", targets=pairs) == [200, 200, REFUSED, REFUSED]
        # What Node does by itself with a name that DNS knows: the Host header alone decides.
        assert ask(targets=["127.0.0.1|hub.example.org", f"127.0.0.1|{name}"]) == [REFUSED, 200]
        assert await local_probe.answers(port, "/", host=name, files=files)
        assert not await local_probe.answers(port, "/", host=other, files=files)
        assert not await local_probe.answers(port, "/", host="127.0.0.1", files=files)


def test_a_certificate_that_nobody_could_read_is_not_made() -> None:
    names = [f"DNS:{name_of(LAUNCH, f'node{number:05}.example.org')}" for number in range(1300)]
    assert not_too_many(names[::-1]) == names
    with pytest.raises(StartFailed) as caught:
        not_too_many([*names, *(f"DNS:{number:0200}" for number in range(100))])
    assert (caught.value.permanent, "1400 nodes" in caught.value.message) == (True, True)
