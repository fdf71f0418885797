"""Servers with certificates on a real cluster: the Secret becomes files, the pod's DNS name is the certificate's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daas_hub.backends.kube_answers import answers
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Life
from daas_hub.core.naming import new_id
from daas_hub.spawners.certificates import make
from tests.contracts.backend import Saved
from tests.servers.authorities import bundle_for_servers, make_authorities
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.client import Client

pytestmark = [pytest.mark.needs("kubernetes"), pytest.mark.timeout(180)]
SERVICE = "servers"


@pytest.fixture
async def place(kube: Client, tiny_name: str) -> AsyncIterator[KubePlace]:
    async with kube_place(kube, tiny_name, server_service=SERVICE) as place:
        yield place


async def test_a_server_is_reached_by_the_name_of_its_certificate(place: KubePlace, tmp_path: Path) -> None:
    ports = [{"name": "https", "port": 8888}]
    service = {"clusterIP": "None", "publishNotReadyAddresses": True, "ports": ports}
    service["selector"] = {"daas-hub/component": "server"}
    meta = {"name": SERVICE, "namespace": place.namespace}
    await asyncio.to_thread(
        place.kube.apply, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service}
    )
    folder = tmp_path / "authorities"
    files = await asyncio.to_thread(make_authorities, folder)
    backend, saved, spec = place.backend, Saved(), place.spec(new_id())
    backend.tls = files
    names = await backend.certificate_names(spec)
    certificates = await asyncio.to_thread(make, folder, bundle_for_servers(folder), spec.launch_id, names)
    spec = replace(spec, certificates=certificates)
    await backend.prepare(spec)
    url = await backend.start(spec, saved)
    host = saved.last["host"]
    assert (url, f"DNS:{host}") == (f"https://{host}:8888", names[0])
    # The cluster's own DNS knows it: asked inside, where hub and proxy are on a site.
    pod = (await place.objects("pods"))[0]
    ip = pod["status"]["podIP"]
    code = f"import socket; print(socket.gethostbyname({host!r}))"
    inside = ("exec", saved.last["pod"], "-c", "notebook", "--", "python3", "-c", code)

    async def resolved() -> str:
        return (await place.ask(*inside)).strip()

    assert await resolved() == ip
    # Nobody else's name, and nobody without the hub's certificate.
    assert await answers(f"https://{ip}:8888", spec.service_prefix, files=files, name=host)
    assert not await answers(f"https://{ip}:8888", spec.service_prefix, files=files, name=f"other.{host}")
    assert not await answers(f"http://{ip}:8888", spec.service_prefix)
    other = place.another()
    other.wait_policy_s = 1
    with pytest.raises(BackendUnavailable):
        await other.resume(saved.last)
    other.tls = files
    assert await other.resume(saved.last) == url
    found = [one.handle for one in await other.find() if one.launch_id == spec.launch_id]
    assert [one["host"] for one in found] == [host]
    key = Path(certificates["keyfile"]).read_text().splitlines()[1]
    assert key not in await place.seen_by_others(saved.last)
    assert (await backend.stop(saved.last, within_s=30)).life is Life.ENDED
