"""From sign-in to a stopped server in a real cluster: pods as the directory's own uids, homes that come back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from daas_hub.core.models import LaunchState
from daas_hub.core.naming import new_id
from daas_hub.db.volumes import VolumeState
from daas_hub.services.console import volume_queries
from daas_hub.services.console.access import Person
from tests.flow.kube_site import KubeSite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.client import Client
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.images import Image
from tests.servers.slapd import PEOPLE
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "slapd", "root"), pytest.mark.timeout(240)]


@pytest.fixture
async def site(kube: Client, tiny_name: str) -> AsyncIterator[KubeSite]:
    with kube.namespace(**RESTRICTED) as namespace:
        site = KubeSite(kube, namespace, tiny_name, proxy=False)
        await site.start()
        try:
            yield site
        finally:
            await site.stop()


async def test_a_server_is_a_pod_of_the_person_and_her_home_comes_back(site: KubeSite) -> None:
    ada = site.person("ada")
    await site.sign_in("ada")
    status, answer = await site.hub.start_server("ada", options={"profile": "small"})
    assert status in (201, 202), answer
    (pod,) = await site.pods()
    assert pod["metadata"]["labels"]["tier"] == "small"
    name = pod["metadata"]["name"]
    groups = {ada.gid, *(int(g) for g in (await site.inside(name, "id", "-G")).split())}
    assert (await site.inside(name, "id", "-u")).strip() == str(ada.uid)
    assert (await site.inside(name, "id", "-un")).strip() == "ada"
    assert ada.gid in groups
    assert 31337 not in groups, "the image's own /etc/group gives her a group that she is not in"
    home = str(site.home("ada"))
    await site.inside(name, "sh", "-c", f"echo kept > {home}/result")
    (row,) = site.launches()
    assert (row.state, row.backend) == (LaunchState.RUNNING, "kubernetes")

    status, _ = await site.hub.api("DELETE", "users/ada/server")
    assert status in (202, 204)
    await until(lambda: _ended(site), within_s=60, what="the launch ended")
    await until(lambda: _nothing(site), within_s=60, what="pod, Secret and ConfigMap gone")

    status, answer = await site.hub.start_server("ada")
    assert status in (201, 202), answer
    (pod,) = await site.pods()
    name = pod["metadata"]["name"]
    assert (await site.inside(name, "cat", f"{home}/result")).strip() == "kept"
    assert (await site.inside(name, "stat", "-c", "%u", f"{home}/result")).strip() == str(ada.uid)
    (claim,) = await site.objects("persistentvolumeclaims")
    disk = await asyncio.to_thread(site.cluster.get, "persistentvolume", claim["spec"]["volumeName"])
    assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert disk["metadata"]["annotations"]["daas-hub/user"] == "ada"


async def _ended(site: KubeSite) -> bool:
    return all(row.state is LaunchState.ENDED for row in await asyncio.to_thread(site.launches))


async def _nothing(site: KubeSite) -> bool:
    left = [*await site.pods(), *await site.objects("secrets"), *await site.objects("configmaps")]
    return not [one for one in left if one["metadata"]["name"].startswith("daas-")]


async def test_a_claim_that_is_gone_is_never_replaced_by_an_empty_one(site: KubeSite) -> None:
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    await site.hub.api("DELETE", "users/ada/server")
    await until(lambda: _ended(site), within_s=60, what="the launch ended")
    (claim,) = await site.objects("persistentvolumeclaims")
    await asyncio.to_thread(
        site.cluster.kubectl, "-n", site.namespace, "delete", "pvc", claim["metadata"]["name"], "--wait=true"
    )
    status, answer = await site.hub.api("POST", "users/ada/server")
    assert status >= 400
    assert "gone from the cluster" in answer["message"]
    assert await site.objects("persistentvolumeclaims") == []


async def test_a_pod_that_dies_frees_its_place_at_once(site: KubeSite) -> None:
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (pod,) = await site.pods()
    await asyncio.to_thread(
        site.cluster.kubectl, "-n", site.namespace, "delete", "pod", pod["metadata"]["name"], "--wait=false"
    )
    await until(lambda: _ended(site), within_s=40, what="the launch ended")
    (row,) = site.launches()
    assert row.reason
    assert (await site.hub.start_server("ada"))[0] in (201, 202)


async def test_a_deleted_users_home_waits_and_is_there_when_she_comes_back(site: KubeSite) -> None:
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (pod,) = await site.pods()
    result = f"{site.home('ada')}/result"
    await site.inside(pod["metadata"]["name"], "sh", "-c", f"echo kept > {result}")

    # A named server that is deleted, not only stopped, takes nothing along either.
    assert (await site.hub.start_server("ada", "extra"))[0] in (201, 202)
    assert (await site.hub.api("DELETE", "users/ada/servers/extra", {"remove": True}))[0] in (202, 204)
    await until(lambda: _one_pod(site), within_s=60, what="the named server's pod is gone")
    assert (await site.inside(pod["metadata"]["name"], "cat", result)).strip() == "kept"
    assert len(await site.objects("persistentvolumeclaims")) == 1

    status, answer = await site.hub.api("DELETE", "users/ada")
    assert status == 204, answer
    await until(lambda: _nothing(site), within_s=60, what="pod, Secret and ConfigMap gone")
    assert len(await site.objects("persistentvolumeclaims")) == 1
    ledger = site.ledger()
    try:
        (home,) = ledger.volumes.list()
        assert home.state is VolumeState.RETAINED
        assert home.retained_at is not None
        assert home.expires_at == home.retained_at + timedelta(days=90)

        await site.sign_in("ada")
        assert (await site.hub.start_server("ada"))[0] in (201, 202)
        (pod,) = await site.pods()
        assert (await site.inside(pod["metadata"]["name"], "cat", result)).strip() == "kept"
        (again,) = ledger.volumes.list()
        assert (again.id, again.state, again.expires_at) == (home.id, VolumeState.IN_USE, None)
    finally:
        ledger.close()


async def _one_pod(site: KubeSite) -> bool:
    return len(await site.pods()) == 1


def _sizes(site: KubeSite) -> list[int | None]:
    """What "My usage" shows of ada's volumes."""
    ledger = site.ledger()
    try:
        found = volume_queries.mine(ledger, Person("ada", "user", (), frozenset()))
        return [volume.size_bytes for volume in found.volumes]
    finally:
        ledger.close()


async def test_a_home_that_should_be_larger_is_told_in_the_steps_and_the_console(site: KubeSite) -> None:
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    await until(lambda: _sizes(site) == [2**30], within_s=30, what="the size is known from the first start on")
    await site.hub.api("DELETE", "users/ada/server")
    await until(lambda: _ended(site), within_s=60, what="the launch ended")
    await site.hub.stop()
    site.hub.config = site.hub.config.replace('home_size = "1Gi"', 'home_size = "3Gi"')
    await site.hub.start()
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    ledger = site.ledger()
    try:
        (home,) = ledger.volumes.list()
        assert home.made is not None
        growing = home.made["growth"]
        assert (growing["state"], growing["has"], growing["to"]) == ("refused", "1Gi", "3Gi")
        launch = next(row for row in site.launches() if row.state is LaunchState.RUNNING)
        steps = [event.message for _, event in ledger.events(launch.id)]
        said = f"The volume for {site.home('ada')} stays at 1 GiB; it should have 3 GiB, but disks of the class"
        assert [step for step in steps if step.startswith(said)], steps
        ada = Person("ada", "user", (), frozenset())
        (shown,) = volume_queries.mine(ledger, ada).volumes
        assert shown.growth is not None
        assert shown.growth.words.startswith("stays at 1 GiB; it should have 3 GiB, but disks of the class")
        assert shown.growth.at is not None
        everybodys = volume_queries.volumes(ledger, "", "", "refused", "", 50)
        assert [one.id for one in everybodys.volumes] == [home.id]
    finally:
        ledger.close()


@pytest.mark.needs("kube_rig")
async def test_a_projects_folder_is_the_projects_in_the_ledger(kube_rig: Cluster, tiny: Image) -> None:
    folder = kube_rig.addons.volumes_folder / new_id()
    lab = PEOPLE["ada"].gid
    (folder / "lab").mkdir(parents=True, mode=0o755)
    os.chown(folder / "lab", 0, lab)
    (folder / "lab").chmod(0o2770)
    folders = {
        "kind": "hostPath",
        "path": f"{folder}/{{group}}",
        "mount_path": "/projects/{group}",
        "allowed_groups": ["lab"],
    }
    more = (
        f"c.KubeBackend.volume_roots = [{{'hostPath': {{'path': {str(folder)!r}}}}}]\n"
        f"c.KubeBackend.volumes = {{'projects': {folders!r}}}\n"
        "c.DaasSpawner.profile_list[0]['volumes'] = ['projects']\n"
    )
    with kube_rig.namespace(**RESTRICTED) as namespace:
        site = KubeSite(kube_rig, namespace, tiny.name, more=more, proxy=False)
        await site.start()
        ledger = site.ledger()
        try:
            await site.sign_in("ada")
            assert (await site.hub.start_server("ada"))[0] in (201, 202)
            (pod,) = await site.pods()
            await site.inside(pod["metadata"]["name"], "sh", "-c", "echo ours > /projects/lab/result")
            facts = (folder / "lab" / "result").stat()
            assert (facts.st_uid, facts.st_gid) == (PEOPLE["ada"].uid, lab)
            (row,) = (one for one in ledger.volumes.list() if one.name == "projects:lab")
            assert (row.account_id, row.project_id) == (None, None)

            # The administrator enters the project; the next start of anybody in the group writes it down.
            beam = ledger.projects.set("beam", by="admin:root", now=datetime.now(UTC), gid=lab)
            assert (await site.hub.start_server("ada", "extra"))[0] in (201, 202)
            again = ledger.volumes.get(row.id)
            assert (again.project_id, len(ledger.volumes.list())) == (beam.id, 2)
        finally:
            ledger.close()
            await site.stop()
            await asyncio.to_thread(
                kube_rig.kubectl, "delete", "pv", "-l", f"daas-hub/hub={site.hub_id}", "--wait=false"
            )
