"""internal_ssl: the server gets readable copies of its files, and wants a certificate from whoever asks."""

from __future__ import annotations

import asyncio
import ssl
import stat
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.local_place import GID, UID, LocalPlace, local_place

pytestmark = pytest.mark.needs("root")


@pytest.fixture
async def place() -> AsyncIterator[LocalPlace]:
    async with local_place() as place:
        yield place


async def test_a_server_with_certificates_of_its_own(place: LocalPlace) -> None:
    private = place.root / "hub"
    private.mkdir(mode=0o700)
    key, cert = private / "key.pem", private / "cert.pem"
    spec, saved = place.spec(new_id()), Saved()
    (name,) = await place.backend.certificate_names(spec)
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=any -addext subjectAltName={name}"
    argv = [*words.split(), "-keyout", str(key), "-out", str(cert)]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    files = {"keyfile": str(key), "certfile": str(cert), "cafile": str(cert)}
    spec = replace(spec, certificates=files)
    place.backend.tls = {"client_key": str(key), "client_cert": str(cert), "ca_certs": str(cert)}
    await place.backend.prepare(spec)
    url = await place.backend.start(spec, saved)
    assert url == f"https://{name.removeprefix('IP:')}:{saved.last['port']}"
    assert saved.last["tls"] is True
    copy = (Path(saved.last["dir"]) / "own/keyfile").stat()
    assert (copy.st_uid, copy.st_gid, stat.S_IMODE(copy.st_mode)) == (UID, GID, 0o600)

    def ask() -> int:
        context = ssl.create_default_context(cafile=str(cert))
        context.load_cert_chain(str(cert), str(key))
        with urllib.request.urlopen(f"{url}{spec.service_prefix}api", context=context, timeout=10) as answer:
            return int(answer.status)

    assert await asyncio.to_thread(ask) == 200
    other = place.another()
    other.wait_policy_s = 1
    # Without a certificate it is asked nothing, and nothing is believed.
    with pytest.raises(BackendUnavailable):
        await other.resume(saved.last)
    other.tls = place.backend.tls
    assert await other.resume(saved.last) == url
    assert (await place.backend.stop(saved.last, within_s=10)).life is Life.ENDED
