"""The backends' contract on a real cluster: API server, kubelet, containerd, a claim for each home."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contracts.backend import BackendContract, Saved
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.client import Client

pytestmark = [pytest.mark.needs("kubernetes"), pytest.mark.timeout(180)]


@pytest.fixture
async def place(kube: Client, tiny_name: str) -> AsyncIterator[KubePlace]:
    async with kube_place(kube, tiny_name) as place:
        yield place


class TestKubernetes(BackendContract):
    end_within_s = 20.0
    stop_within_s = 30.0
    tokens_within_s = 60.0

    async def test_a_start_does_not_need_the_watch(
        self, place: KubePlace, saved: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("daas_hub.backends.kube_start.CHECK_EVERY_S", 0.5)
        pods = place.backend._pods
        assert await pods.synced(10)
        await pods.close()
        monkeypatch.setattr(pods, "start", lambda: None)
        spec, url = await self.begin(place, saved)
        assert (await place.get(url, spec, "whoami"))["pid"] > 0
        assert saved.last["pod"] not in pods.objects
