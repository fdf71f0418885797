"""Whose servers a namespace has: another ledger's are neither judged nor stopped, until it takes them over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daas_hub.backends.kube import KubeBackend
from daas_hub.core.errors import BackendUnavailable, ConfigError
from daas_hub.core.naming import new_id
from daas_hub.db.ledger import Ledger
from daas_hub.services.reconciler import Reconciler
from daas_hub.services.settings import Environment
from tests.contracts.backend import Saved
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.client import Client
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "root"), pytest.mark.timeout(180)]


@pytest.fixture
async def place(kube: Client, tiny_name: str) -> AsyncIterator[KubePlace]:
    async with kube_place(kube, tiny_name) as place:
        yield place


async def claim(backend: KubeBackend, ledger_id: str) -> None:
    await asyncio.to_thread(backend.claim, ledger_id)


async def test_the_first_ledger_has_the_namespace_until_another_takes_it_over(place: KubePlace) -> None:
    backend = place.backend
    await claim(backend, "one")
    await claim(backend, "one")
    with pytest.raises(ConfigError, match="another ledger"):
        await claim(place.another(), "two")
    await backend.take_over("two")
    await claim(place.another(), "two")
    with pytest.raises(ConfigError, match="another ledger"):
        await claim(backend, "one")
    neighbour = KubeBackend(**{**place.traits, "hub_id": "neighbour"})
    place.backends.append(neighbour)
    await claim(neighbour, "one")


async def test_what_cannot_be_told_is_not_taken_for_another_ledgers(place: KubePlace, tmp_path: Path) -> None:
    nowhere = {"namespace": "there-is-none"}, {"kubeconfig": str(tmp_path / "there-is-none")}
    for changed in nowhere:
        backend = KubeBackend(**{**place.traits, **changed})
        place.backends.append(backend)
        with pytest.raises(BackendUnavailable):
            await claim(backend, "one")


async def test_a_reconciler_with_another_ledger_stops_nothing(
    place: KubePlace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same reconciler stops the server once the namespace is its ledger's: only the claim kept it from that."""
    saved = Saved()
    await claim(place.backend, "the ledger that was lost")
    spec = place.spec(new_id())
    await place.backend.prepare(spec)
    await place.backend.start(spec, saved)
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    ledger = Ledger.open(url)
    ledger_id = ledger.claim("contract")
    kube = {key: place.traits[key] for key in ("kubeconfig", "namespace", "stop_grace_s")}
    sections = {
        "DaasHub": {"backends": {"kubernetes": "daas_hub.backends.kube.KubeBackend"}},
        "KubeBackend": kube,
        "Reconciler": {"every_s": 1, "reap_grace_s": 0},
    }
    environment = Environment(
        "http://127.0.0.1:1/hub/api", "none", url, hub_id="contract", boot_id=new_id(), config=sections
    )
    with caplog.at_level(logging.DEBUG):
        running = asyncio.create_task(Reconciler(environment, ledger=ledger).run())
        try:
            await until(lambda: caplog.text.count("known to another ledger") >= 4, within_s=60, what="four passes")
            assert [pod["metadata"]["name"] for pod in await place.objects("pods")] == [saved.last["pod"]]
            assert not (await place.objects("pods"))[0]["metadata"].get("deletionTimestamp")
            await place.backend.take_over(ledger_id)
            await until(lambda: _no_pod(place), within_s=60, every_s=0.3, what="the unknown server is stopped")
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def _no_pod(place: KubePlace) -> bool:
    return not await place.objects("pods")
