"""What is told of a start in a real cluster: a gone pod's log, its image's digest, one cancelled of two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daas_hub.core.launch import CANCELLED
from daas_hub.core.models import LaunchState
from daas_hub.db.ledger import Kept
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.client import Client
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "slapd", "root"), pytest.mark.timeout(240)]


@asynccontextmanager
async def scripted(kube: Client, image: str, script: str) -> AsyncIterator[KubeSite]:
    """A site whose servers run this shell script first; ada signed in."""
    with kube.namespace(**RESTRICTED) as namespace:
        more = f"c.DaasSpawner.cmd = ['/bin/sh', '-c', {script!r}, 'sh']\n"
        site = KubeSite(kube, namespace, image, more=more, proxy=False)
        await site.start()
        try:
            await site.sign_in("ada")
            yield site
        finally:
            await site.stop()


def kept(site: KubeSite, launch_id: str) -> Kept:
    ledger = site.ledger()
    try:
        return ledger.kept(launch_id)
    finally:
        ledger.close()


@pytest.fixture
async def broken(kube: Client, tiny_name: str) -> AsyncIterator[KubeSite]:
    async with scripted(kube, tiny_name, 'echo "no luck token=$JUPYTERHUB_API_TOKEN"; exit 3') as site:
        yield site


async def test_the_log_and_the_image_of_a_failed_pod_outlive_it(broken: KubeSite) -> None:
    status, answer = await broken.hub.start_server("ada")
    assert status == 500
    assert "exit status 3" in answer["message"]
    await until(lambda: broken.launches()[0].state is LaunchState.ENDED, within_s=60, what="the launch ended")
    await until(lambda: _gone(broken), within_s=60, what="the pod is gone")
    (row,) = broken.launches()
    assert row.started_at is None
    found = kept(broken, row.id)
    assert found.log == "no luck token=…"
    assert found.image_digest is not None
    assert found.image_digest.startswith("sha256:")
    assert (found.software or {})["image"].endswith(broken.image)


async def _gone(site: KubeSite) -> bool:
    return not await site.pods()


@pytest.fixture
async def waiting(kube: Client, tiny_name: str) -> AsyncIterator[KubeSite]:
    wait = 'while [ ! -e "$HOME/go" ]; do sleep 0.1; done; exec jupyterhub-singleuser "$@"'
    async with scripted(kube, tiny_name, wait) as site:
        yield site


@pytest.mark.parametrize("cancelled", ["", "extra"], ids=["default", "named"])
async def test_cancel_stops_exactly_this_pod(waiting: KubeSite, cancelled: str) -> None:
    site, other = waiting, "extra" if cancelled == "" else ""
    starts = {name: asyncio.create_task(site.hub.start_server("ada", name)) for name in (cancelled, other)}

    async def running() -> list[str]:
        return [pod["metadata"]["name"] for pod in await site.pods() if pod["status"]["phase"] == "Running"]

    async def left(number: int) -> bool:
        return len(await running()) == number == len(await site.pods())

    await until(lambda: left(2), within_s=60, what="both pods run")
    path = f"users/ada/servers/{cancelled}" if cancelled else "users/ada/server"
    assert (await site.hub.api("DELETE", path))[0] in (202, 204)
    await until(lambda: left(1), within_s=60, what="one pod is left")
    (name,) = await running()
    await site.inside(name, "touch", f"{site.home('ada')}/go")
    assert (await starts[other])[0] in (201, 202)
    await starts[cancelled]
    rows = {row.server_name: row for row in site.launches()}
    assert (rows[cancelled].state, rows[cancelled].reason) == (LaunchState.ENDED, CANCELLED)
    assert rows[other].state is LaunchState.RUNNING
    assert rows[other].handle is not None
    assert await running() == [rows[other].handle["pod"]]
    objects = [*await site.objects("secrets"), *await site.objects("configmaps")]
    assert not [
        one for one in objects if one["metadata"]["name"].startswith(f"{(rows[cancelled].handle or {})['pod']}-")
    ]


@pytest.fixture
async def short(kube: Client, tiny_name: str) -> AsyncIterator[KubeSite]:
    own = ["/bin/sh", "-c", "echo $0 of the profile; exit 4", "words"]
    profiles = [
        {"display_name": "GPUs", "slug": "gpus", "resources": {"gpus": 2, "cpu_limit": 0.2, "mem_limit": "128M"}},
        {
            "display_name": "Own",
            "slug": "own",
            "resources": {"cpu_limit": 0.2, "mem_limit": "128M"},
            "kubespawner_override": {"cmd": own},
        },
    ]
    more = f"c.KubeBackend.wait_policy_s = 8\nc.DaasSpawner.profile_list = {profiles!r}\n"
    with kube.namespace(**RESTRICTED) as namespace:
        site = KubeSite(kube, namespace, tiny_name, more=more, proxy=False)
        await site.start()
        try:
            await site.sign_in("ada")
            yield site
        finally:
            await site.stop()


async def test_what_a_start_waited_for_is_told_and_kept_when_its_time_is_over(short: KubeSite) -> None:
    # The answer is 500 or, where a busy machine takes longer than the hub waits, 202; what is kept is the same.
    await short.hub.api("POST", "users/ada/server", {"profile": "gpus"})
    await until(lambda: short.launches()[0].state is LaunchState.ENDED, within_s=60, what="the launch ended")
    (row,) = short.launches()
    assert row.reason == ("The server could not be started within 8 s. Waiting for a node: none has 2 GPUs free.")
    ledger = short.ledger()
    try:
        said = [event.message for _, event in ledger.events(row.id)]
    finally:
        ledger.close()
    asked, waits = said.index("Asking the cluster for a pod"), "Waiting for a node: none has 2 GPUs free."
    assert [step for step in said if step == waits] == [waits], said
    assert asked < said.index(waits)


async def test_a_profiles_own_command_is_what_runs(short: KubeSite) -> None:
    await short.hub.api("POST", "users/ada/server", {"profile": "own"})
    await until(lambda: short.launches()[0].state is LaunchState.ENDED, within_s=60, what="the launch ended")
    (row,) = short.launches()
    assert row.reason == "exit status 4"
    assert kept(short, row.id).log == "words of the profile"
