"""Why a start fails in a real cluster: image, quota, scheduling and rules are told apart, each by who can help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from daas_hub.core.errors import AccountRefused, StartFailed
from daas_hub.core.models import LaunchSpec
from daas_hub.core.naming import new_id
from tests.contracts.backend import Saved
from tests.servers.kube_place import KubePlace, kube_place
from tests.servers.kubernetes.client import Client
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes"), pytest.mark.timeout(180)]
SHORT_S = 6


@pytest.fixture
async def place(kube: Client, tiny_name: str) -> AsyncIterator[KubePlace]:
    async with kube_place(kube, tiny_name) as place:
        yield place


async def failed(place: KubePlace, spec: LaunchSpec) -> StartFailed:
    """How its start ended; nothing of it is left."""
    saved = Saved()
    await place.backend.prepare(spec)
    with pytest.raises(StartFailed) as raised:
        await place.backend.start(spec, saved)
    if saved.handles:
        await place.backend.stop(saved.last, within_s=30)
        await place.backend.cleanup(saved.last)
    assert (await place.objects("pods")) == []
    return raised.value


async def test_an_image_that_is_nowhere(place: KubePlace) -> None:
    override = {"image": "localhost/nowhere:1", "image_pull_policy": "Never"}
    error = await failed(place, place.spec(new_id(), override=override, mounts=()))
    assert error.reason == "image", error.log_message
    assert "localhost/nowhere:1" in error.message


async def test_more_gpus_than_any_node_has(place: KubePlace) -> None:
    place.traits["wait_policy_s"] = SHORT_S
    place.backend = place.another()
    spec = place.spec(new_id(), mounts=())
    spec = replace(spec, resources=replace(spec.resources, gpus=2))
    error = await failed(place, spec)
    assert (error.permanent, error.reason) == (False, "scheduling"), error.log_message
    assert "none has 2 GPUs free" in error.message
    assert f"within {SHORT_S} s" in error.message


async def test_a_quota_of_the_namespace_that_is_used_up(place: KubePlace) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": place.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    await asyncio.to_thread(place.kube.apply, quota)
    counted = ("get", "resourcequota", "full", "-o", "jsonpath={.status.hard.pods}")
    await until(lambda: place.ask(*counted), within_s=30, what="the quota counts")
    error = await failed(place, place.spec(new_id(), mounts=()))
    assert error.reason == "quota", error.log_message


@pytest.mark.parametrize("changes", [{"uid": 0}, {"uid": 999}, {"gid": 0}], ids=["root", "system", "root-group"])
async def test_an_account_that_may_not_run(place: KubePlace, changes: dict[str, Any]) -> None:
    """Before the cluster is asked; it would refuse it, too."""
    ((key, number),) = changes.items()
    spec = place.spec(new_id(), account=replace(place.account, **changes))
    with pytest.raises(AccountRefused, match=rf"{key}s? \[?{number}\]?; allowed is"):
        await place.backend.prepare(spec)
    assert [await place.objects(kind) for kind in ("pods", "pvc")] == [[], []]
