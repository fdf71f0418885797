"""Disks that outlive namespace and databases: bound again to the same volumes, and never replaced by empty ones."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends.kube_claims import CLAIM, claim_name
from daas_hub.backends.kube_disks import recorded_of
from daas_hub.clients.kube import MERGE, Kube, path
from daas_hub.core.models import Account, AccountGroup
from daas_hub.core.recall import OwnedVolume
from daas_hub.db.ledger import Ledger
from tests.faults.kube_recovery import LONG, RecoverySite
from tests.servers.kube_place import RESTRICTED
from tests.servers.kubernetes.client import Client
from tests.waiting import until

pytestmark = [pytest.mark.needs("kubernetes", "slapd", "root"), pytest.mark.timeout(900 if LONG else 300)]

NUMBER = 1000 if LONG else 100
PROMISED_S = 60
"""For 1,000 volumes, asked of the long run only."""
PLACE = "kubernetes"


@pytest.fixture
async def site(kube: Client, tiny_name: str) -> AsyncIterator[RecoverySite]:
    with kube.namespace(**RESTRICTED) as namespace:
        site = RecoverySite(kube, namespace, tiny_name)
        await site.start()
        try:
            yield site
        finally:
            await site.stop()


async def test_a_home_comes_back_after_namespace_and_databases_were_lost(site: RecoverySite) -> None:
    """Deleted: pods, claims, the namespace itself, the hub's database, the ledger. Left: the disk."""
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    home = site.home("ada")
    (process,) = (await site.seen()).values()
    await site.inside(process.pod, "sh", "-c", f"echo kept > {home}/result")
    (volume,) = volumes(site.ledger())
    await site.lose_hub()
    site.lose_ledger()
    await asyncio.to_thread(site.cluster.kubectl, "delete", "namespace", site.namespace, "--wait=true")
    site.cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": site.namespace, "labels": RESTRICTED}}
    )
    await asyncio.to_thread(
        site.cluster.until, lambda: site.cluster.get("serviceaccount", "default", site.namespace), what="account"
    )

    await site.hub.start()
    await site.sign_in("ada")
    status, answer = await site.hub.api("POST", "users/ada/server")
    assert status >= 400
    assert "Nothing new was put in its place" in answer["message"]
    assert await site.objects("persistentvolumeclaims") == []

    status, said = await site.adopt("--volumes", "--dry-run")
    assert status == 3, said
    assert "disks to be bound again: 1;" in said
    assert await site.objects("persistentvolumeclaims") == []
    status, said = await site.adopt("--volumes")
    assert status == 0, said
    (again,) = volumes(site.ledger())
    assert (again[0], again[1]["disk"]) == (volume[0], volume[1]["disk"])

    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (process,) = (await site.seen()).values()
    assert (await site.inside(process.pod, "cat", f"{home}/result")).strip() == "kept"
    assert (await site.inside(process.pod, "stat", "-c", "%u", f"{home}/result")).strip() == "20001"


def volumes(ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
    """Id of each volume, and what was made of it."""
    try:
        return [(volume.id, volume.made or {}) for volume in ledger.volumes.list()]
    finally:
        ledger.close()


# ---------------------------------------------------------------- many


class Disks:
    """Disks of many people, as a lost namespace leaves them: released, retained, with their notes."""

    def __init__(self, kube: Kube, namespace: str, hub_id: str) -> None:
        self.kube, self.namespace, self.hub_id = kube, namespace, hub_id
        self._slots = asyncio.Semaphore(16)

    def disk(self, number: int) -> dict[str, Any]:
        """One that no node mounts: its folder exists nowhere."""
        name, volume = f"user{number}", self.volume(number)
        person = Account(
            id=f"{number:032x}",
            name=name,
            uid=50000 + number,
            gid=50000,
            groups=(AccountGroup("many", 50000),),
            home=f"/home/{name}",
            shell="/bin/sh",
            source="test",
            fetched_at=datetime.now(UTC),
        )
        place = {"version": 1, "kind": "claim"}
        owned = OwnedVolume(volume, "home", place, {}, person, name, ("ldap:test", f"uuid-{number}"))
        noted = recorded_of(owned, self.hub_id)
        ref = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": self.namespace}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": self.name(number),
                "labels": dict(noted.labels),
                "annotations": {**noted.annotations, CLAIM: f"{self.namespace}/{claim_name(volume)}"},
            },
            "spec": {
                "capacity": {"storage": f"{1 + number}Mi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "gone",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": f"/nowhere/{number}"},
                "claimRef": {**ref, "name": claim_name(volume), "uid": f"00000000-0000-0000-0000-{number:012d}"},
            },
        }

    def name(self, number: int) -> str:
        return f"{self.namespace}-{number}"

    @staticmethod
    def volume(number: int) -> str:
        return f"{number:08x}{'5' * 24}"

    async def make(self, number: int) -> None:
        async with self._slots:
            await self.kube.call("POST", path("persistentvolumes"), body=self.disk(number))
            # As the cluster finds by itself, one after the other.
            where = path("persistentvolumes", name=self.name(number), sub="status")
            await self.kube.call("PATCH", where, body={"status": {"phase": "Released"}}, content_type=MERGE)

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every disk of this hub, by name."""
        labels = f"daas-hub/hub={self.hub_id}"
        return {d["metadata"]["name"]: d async for d in self.kube.pages(path("persistentvolumes"), labels)}

    async def claims(self) -> dict[str, dict[str, Any]]:
        """Every claim of the namespace, by name."""
        where = path("persistentvolumeclaims", self.namespace)
        return {claim["metadata"]["name"]: claim async for claim in self.kube.pages(where)}

    async def remove(self) -> None:
        for kind, namespace in (("persistentvolumeclaims", self.namespace), ("persistentvolumes", "")):
            query = {"labelSelector": f"daas-hub/hub={self.hub_id}"}
            await self.kube.call("DELETE", path(kind, namespace), query=query, within_s=120)


def adopt(folder: Path, *words: str) -> tuple[int, str]:
    """The command, with a configuration of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "JUPYTERHUB_CRYPT_KEY": "ab" * 32}
    argv = [sys.executable, "-m", "daas_hub.cli", "adopt", "-f", str(folder / "jupyterhub_config.py"), *words]
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_many_volumes_are_bound_again_each_to_its_own_disk(kube: Client, tmp_path: Path) -> None:
    api = Kube(kubeconfig=str(kube.kubeconfig))
    with kube.namespace(**RESTRICTED) as namespace:
        disks = Disks(api, namespace, f"many-{namespace[-8:]}")
        (tmp_path / "jupyterhub_config.py").write_text(
            f"""c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.DaasHub.hub_id = {disks.hub_id!r}
c.DaasHub.ledger_url = "sqlite:///{tmp_path}/ledger.sqlite"
c.DaasHub.backends = {{"kubernetes": "daas_hub.backends.kube.KubeBackend"}}
c.KubeBackend.kubeconfig = {str(kube.kubeconfig)!r}
c.KubeBackend.namespace = {namespace!r}
from daas_hub import configure
configure(c)
"""
        )
        try:
            await asyncio.gather(*(disks.make(number) for number in range(NUMBER)))
            await _bound_again(disks, tmp_path)
        finally:
            await disks.remove()
            await api.close()


async def _bound_again(disks: Disks, folder: Path) -> None:
    began = time.monotonic()
    status, said = await asyncio.to_thread(adopt, folder, "--volumes")
    took_s = time.monotonic() - began
    assert status == 0, said
    assert f"disks bound again: {NUMBER};" in said
    if LONG:
        assert took_s < PROMISED_S, f"{NUMBER} volumes took {took_s:.0f} s"
    claims = await disks.claims()
    wanted = {claim_name(disks.volume(number)): disks.name(number) for number in range(NUMBER)}
    assert {name: claim["spec"]["volumeName"] for name, claim in claims.items()} == wanted

    async def bound() -> bool:
        phases = {claim["status"].get("phase") for claim in (await disks.claims()).values()}
        return phases == {"Bound"}

    await until(bound, within_s=600 if LONG else 120, every_s=1, what="the cluster has bound all claims")
    claims, there = await disks.claims(), await disks.all()
    for number in range(NUMBER):
        claim, disk = claims[claim_name(disks.volume(number))], there[disks.name(number)]
        assert disk["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
        assert disk["spec"]["hostPath"]["path"] == f"/nowhere/{number}"
        assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    _in_ledger(disks, folder)
    status, said = await asyncio.to_thread(adopt, folder, "--volumes")
    assert status == 0, said
    assert "bound again" not in said
    assert await disks.claims() == claims, "a second run changed something"


def _in_ledger(disks: Disks, folder: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.sqlite", create=False)
    try:
        rows = {volume.id: volume for volume in ledger.volumes.list()}
        people = {account.id: account for account in ledger.accounts.list()}
    finally:
        ledger.close()
    assert rows.keys() == {disks.volume(number) for number in range(NUMBER)}
    for number in range(NUMBER):
        row = rows[disks.volume(number)]
        assert row.made is not None
        assert row.made["disk"] == disks.name(number)
        assert row.backend == PLACE
        assert people[str(row.account_id)].uid == 50000 + number


async def test_a_disk_that_the_cluster_lost_is_written_again_from_the_ledger(
    kube: Client, tmp_path: Path, site: RecoverySite
) -> None:
    """The cluster is a new one: no claim and no PersistentVolume, but the ledger has the handle of the disk."""
    del tmp_path
    await site.sign_in("ada")
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (process,) = (await site.seen()).values()
    await site.inside(process.pod, "sh", "-c", f"echo kept > {site.home('ada')}/result")
    await site.hub.api("DELETE", "users/ada/server")
    await until(lambda: not site.active(), within_s=60, every_s=0.3, what="stopped")
    ((_, made),) = volumes(site.ledger())
    await asyncio.to_thread(kube.kubectl, "-n", site.namespace, "delete", "pvc", "--all", "--wait=true")
    await asyncio.to_thread(kube.kubectl, "delete", "pv", made["disk"], "--wait=true")
    status, answer = await site.hub.api("POST", "users/ada/server")
    assert status >= 400, answer
    status, said = await site.adopt("--volumes")
    assert status == 0, said
    assert (await site.hub.start_server("ada"))[0] in (201, 202)
    (process,) = (await site.seen()).values()
    assert (await site.inside(process.pod, "cat", f"{site.home('ada')}/result")).strip() == "kept"
